"""Where the tests of the labels table keep one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import storage


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Of a labels table yet to be."""
    return str(tmp_path / "labels")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cluster)])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, on the disk and in the object store: for what may differ there."""
    base = str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket_uri")
    return storage.join(base, "labels")
