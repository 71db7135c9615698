"""Where the tests of the labels table keep one, and `mgc labels` run on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.storage.uri import Uri
from pipelines.cli import find
from pipelines.command.job import run
from tests.support.versions import Run


@pytest.fixture
def uri(tmp_path: Path) -> Uri:
    """Of a labels table yet to be."""
    return Uri.of_path(tmp_path / "labels")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cluster)])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Uri:
    """The same, on the disk and in the object store: for what may differ there."""
    base = str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket_uri")
    return Uri.parse(base) / "labels"


@pytest.fixture
def mgc_labels(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `mgc labels …` in this process."""

    def call(*arguments: object) -> tuple[int, dict[str, Any], str, str]:
        capsys.readouterr()
        code = run(find("labels"), [str(each) for each in arguments], "mgc labels")
        printed = capsys.readouterr()
        *rest, last = printed.out.splitlines()
        return code, json.loads(last), "\n".join(rest), printed.err

    return call
