"""Names of FMA's subsets, apart from the reader so that the command line can import them quickly."""

from __future__ import annotations

from typing import Final, Literal, get_args

Subset = Literal["small", "medium", "large", "full"]
SUBSETS: Final[tuple[Subset, ...]] = get_args(Subset)
"""Subsets from the smallest to the largest. `full` has the tracks of `large`, untrimmed."""
