"""The table by which `make test` deals out the files of tests."""

from __future__ import annotations

from pathlib import Path

from tests.schedule import SECONDS

ROOT = Path(__file__).parents[3]


def test_every_file_of_the_table_is_there() -> None:
    assert [file for file in SECONDS if not (ROOT / file).is_file()] == []
