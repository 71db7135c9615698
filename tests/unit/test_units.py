"""Sizes and durations as people read them."""

from __future__ import annotations

import pytest

from mgc.units import format_bytes, format_duration


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
