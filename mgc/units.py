"""Counts, sizes and durations for people, in one form everywhere. Sizes are in binary units: 1 MiB is 2**20 bytes."""

from __future__ import annotations

from typing import Final

GIB: Final = 2**30

MAX_FILE_GIB: Final = 64
"""Size of the largest file to hear if nobody says otherwise: 100 hours of WAV."""

_LONG_HOURS: Final = 100
"""Hours from which a duration is shown in whole hours."""


def format_bytes(size: float) -> str:
    """Return a size with three digits and its unit: `512 B`, `1.5 KiB`, `12.3 MiB`, `879 GiB`.

    Args:
        size: size in bytes, not negative.
    """
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        # From 1023.5 on, rounding to whole numbers would show 1024.
        if size < 1023.5:
            break
        size, unit = size / 1024, larger
    return f"{size:,.0f} {unit}" if size >= 99.95 or unit == "B" else f"{size:.3g} {unit}"


def format_count(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number of things: `1 track`, `2 tracks`, `1,200 tracks`.

    Args:
        count: how many.
        noun: what one of them is called.
        plural: what several are called; by default the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units: `12.5 s`, `4 min 10 s`, `7 h 30 min`, and from 100 hours on `250 h`.

    Args:
        seconds: duration in seconds, not negative.
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= _LONG_HOURS:
        return f"{seconds / 3600:,.0f} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
