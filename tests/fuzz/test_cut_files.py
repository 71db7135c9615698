"""What fuzzing begins with: each parser takes good files that are cut anywhere. `tests/fuzz/run.py` looks for more."""

from __future__ import annotations

import pytest

from tests.fuzz.parsers import FOUND, PARSERS
from tests.support.good_files import good_files


@pytest.mark.parametrize("parser", PARSERS)
def test_parsers_take_files_that_are_cut_anywhere(parser: str) -> None:
    for file in good_files():
        for size_bytes in (0, 1, 17, 150, 4_000):
            PARSERS[parser](file.data[:size_bytes])


@pytest.mark.parametrize("parser", PARSERS)
def test_parsers_take_what_fuzzing_found(parser: str) -> None:
    files = sorted(FOUND.glob("*/*"))
    assert len(files) > 30
    for file in files:
        PARSERS[parser](file.read_bytes())
