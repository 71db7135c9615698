"""`mgc synthesize`: what it says before it makes anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_type_hints

import pytest

from mgc.datasets.synthetic.corpus import SyntheticConfig
from pipelines.command.job import run
from pipelines.synthesize import command


def test_what_would_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "corpus"
    assert run(command, ["--out", str(out), "--most", "20", "--fewest", "5", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"largest_genre_tracks +20\n", printed)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--most", "10", "--fewest", "20"], "--fewest 20 is more than --most 10"),
        (["--seconds", "20", "10"], "--seconds 20 10"),
    ],
)
def test_no_such_corpus(tmp_path: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["--out", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert fault in error


@pytest.mark.parametrize(
    ("option", "field"),
    [("--most", "largest_genre_tracks"), ("--fewest", "smallest_genre_tracks"), ("--damaged", "damaged_tracks")],
)
def test_the_ranges_of_the_options_are_those_of_the_corpus(
    option: str, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (annotation,) = get_type_hints(SyntheticConfig, include_extras=True)[field].__metadata__
    (least,) = (bound.ge for bound in annotation.metadata if hasattr(bound, "ge"))
    (most,) = (bound.le for bound in annotation.metadata if hasattr(bound, "le"))
    for value in (least - 1, most + 1):
        assert run(command, ["--out", str(tmp_path), option, str(value)]) == 2
        error = capsys.readouterr().err
        assert option in error
        assert f"{least}<=x<={most}" in error
