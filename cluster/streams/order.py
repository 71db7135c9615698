"""The order of the pieces of a table in an epoch. It depends only on seed and epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mgc.datasets.splits import place
from mgc.training.seeds import derive_seed


@dataclass(frozen=True)
class EpochOrder:
    """A random order of pieces, a different one in each epoch.

    Attributes:
        seed: seed of the training.
        epoch: function that returns the epoch; it is called when a pass begins.
    """

    seed: int
    epoch: Callable[[], int]

    def of(self, names: Sequence[str]) -> list[int]:
        """Return the indices of the names in the order of this pass."""
        seed = derive_seed(self.seed, self.epoch())
        return sorted(range(len(names)), key=lambda number: place(names[number], seed))
