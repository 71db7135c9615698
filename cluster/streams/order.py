"""In which order the pieces of a table come in an epoch: seed and epoch alone decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mgc.datasets.splits import place
from mgc.training.seeds import derive_seed


@dataclass(frozen=True)
class Order:
    """In which order pieces come: by chance, another one in each epoch.

    Attributes:
        seed: of the training.
        epoch: asked at the beginning of each pass.
    """

    seed: int
    epoch: Callable[[], int]

    def of(self, names: Sequence[str]) -> list[int]:
        """Places of the names, in the order of this pass."""
        seed = derive_seed(self.seed, self.epoch())
        return sorted(range(len(names)), key=lambda number: place(names[number], seed))
