"""Names of FMA's subsets. A command line needs these, and not what reads the corpus."""

from __future__ import annotations

from typing import Final, Literal, get_args

Subset = Literal["small", "medium", "large", "full"]
SUBSETS: Final[tuple[Subset, ...]] = get_args(Subset)
"""From the smallest to the largest. `full` has the tracks of `large`, untrimmed."""
