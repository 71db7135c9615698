"""The order in which the pieces of a table come in an epoch: seed and epoch alone decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mgc.datasets.splits import place
from mgc.training.seeds import derive_seed


@dataclass(frozen=True)
class EpochOrder:
    """A random order of pieces, a different one in each epoch.

    Attributes:
        seed: of the training.
        epoch: function that is asked for the epoch when a pass begins.
    """

    seed: int
    epoch: Callable[[], int]

    def of(self, names: Sequence[str]) -> list[int]:
        """Return the places of the names in the order of this pass."""
        seed = derive_seed(self.seed, self.epoch())
        return sorted(range(len(names)), key=lambda number: place(names[number], seed))
