"""Counts, sizes and durations as people read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cluster
import pipelines
import tune
from mgc.units import format_bytes, format_count, format_duration


@pytest.mark.parametrize(
    ("count", "nouns", "shown"),
    [
        (0, ("track",), "0 tracks"),
        (1, ("track",), "1 track"),
        (2, ("track",), "2 tracks"),
        (1200, ("track",), "1,200 tracks"),
        (1, ("canary", "canaries"), "1 canary"),
        (3, ("canary", "canaries"), "3 canaries"),
    ],
)
def test_one_thing_is_no_plural(count: int, nouns: tuple[str, ...], shown: str) -> None:
    assert format_count(count, *nouns) == shown


COUNTED = re.compile(
    r"\{(?!(?:MAP_TRACKS|split|name|columns|counts)\b)[^{}]*\} "
    r"(?:tracks|artists|files|labels|tags|genres|trials|epochs|corrections|networks|versions|clips)\b"
)


def test_jobs_count_things_by_the_one_function() -> None:
    """A plural behind a number in a line for people is wrong where the number is 1."""
    folders = [Path(package.__file__ or "").parent for package in (pipelines, cluster, tune)]
    lines = [line for folder in folders for path in folder.rglob("*.py") for line in path.read_text().splitlines()]
    assert [line.strip() for line in lines if COUNTED.search(line)] == []


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1,023 B"),
        (1023.7, "1 KiB"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (12.34 * 2**20, "12.3 MiB"),
        (2**30 - 1, "1 GiB"),
        (879 * 2**30, "879 GiB"),
        (3 << 50, "3,072 TiB"),
    ],
)
def test_a_size_has_three_digits_and_a_binary_unit(size: float, shown: str) -> None:
    assert format_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (12.46, "12.5 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3599.6, "1 h 0 min"),
        (27000, "7 h 30 min"),
        (99 * 3600 + 3540, "99 h 59 min"),
        (1234.4 * 3600, "1,234 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
