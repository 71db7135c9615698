"""Splits by group: all tracks of a group, for example an artist, fall on the same side."""

from __future__ import annotations

import hashlib
from typing import Final

TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"

SHARES: Final = {TEST: 0.15, VALIDATION: 0.15}
"""Shares held out by default; the rest trains."""


def place(group: str, seed: int = 0) -> float:
    """Return the place of a group in [0, 1): uniform over groups, the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def split_of(group: str, seed: int = 0, shares: dict[str, float] | None = None) -> str:
    """Return the split of a group; the shares of all groups that are held out are approximate.

    Args:
        group: for example an artist's id.
        seed: seed of the division.
        shares: shares of the held-out splits, by name, summing to less than 1; `SHARES` by default.
    """
    at, upper = place(group, seed), 0.0
    for name, share in (shares or SHARES).items():
        upper += share
        if at < upper:
            return name
    return TRAIN
