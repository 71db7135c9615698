"""`mgc synthesize`: what it says before it makes anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
        (["--most", "2"], "largest_genre_tracks: Input should be greater than or equal to 3"),
        (["--most", "10", "--fewest", "20"], "smallest_genre_tracks is greater than largest_genre_tracks"),
        (["--seconds", "20", "10"], "shortest_seconds is greater than longest_seconds"),
    ],
)
def test_no_such_corpus(tmp_path: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["--out", str(tmp_path), *options]) == 1
    error = capsys.readouterr().err
    assert fault in error
