"""Class balance over a stream: how often each training row is used in an epoch.

Rows are repeated before they are shared among workers, so every worker gets the same number of rows. A row of class c
with rate r is used floor(r) times, and once more with probability r - floor(r). This is exact in expectation, and
nothing is held in memory. A hash of seed, epoch and row replaces the random number, so the result does not depend on
the number of workers, the order of rows or a resume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from mgc.datasets.splits import place
from mgc.errors import FeaturesError, TrainingError
from mgc.training.seeds import derive_seed

Balance = Literal["natural", "class_balanced", "square_root", "repeat_factor", "progressive"]
"""Way to balance classes; see `repeat_rates`."""

REPEAT_THRESHOLD: Final = 0.1
"""Threshold t of `repeat_factor`, about 1 / number of classes: Gupta et al. use 0.001 for 1,203, this is for ten."""


def repeat_rates(
    counts: Mapping[str, int], balance: Balance, threshold: float = REPEAT_THRESHOLD, done: float = 0.0
) -> dict[str, float]:
    """Return how often a row of each class is used, on average.

    With n_c rows of class c, N rows in all and C classes, the rate is N p_c / n_c, where p_c is the intended share of
    the class. An epoch then keeps the length of the training set. `repeat_factor` sets the rates directly, all at least
    1, so its epochs are longer.

    Args:
        counts: n_c by class, all greater than zero.
        balance: choice of the shares p_c.
            `natural`: n_c / N.
            `class_balanced`: 1 / C.
            `square_root`: proportional to √n_c (Mahajan et al. 2018).
            `progressive`: (1 - done) n_c / N + done / C (progressively balanced, Kang et al. 2020).
            `repeat_factor`: the rate is max(1, √(threshold / (n_c / N))) (Gupta, Dollár and Girshick 2019, LVIS; here a
            row has one class).
        threshold: for `repeat_factor`, the share below which a class is repeated. In (0, 1].
        done: for `progressive`, the share of epochs that are done, e / E, 0 to 1.

    Raises:
        TrainingError: a class has no rows.
    """
    empty = sorted(name for name, count in counts.items() if count <= 0)
    if empty or not counts:
        which = ", ".join(empty) or "(none at all)"
        raise TrainingError(f"training data: no rows of the genre(s) {which}; add tracks of them, or leave them out.")
    total = sum(counts.values())
    if balance == "repeat_factor":
        return {name: max(1.0, math.sqrt(threshold * total / count)) for name, count in counts.items()}
    if balance == "progressive":
        # A mixture of shares gives the same mixture of rates, and the natural rates are 1.
        return {name: 1 - done + done * rate for name, rate in repeat_rates(counts, "class_balanced").items()}
    power = {"natural": 1.0, "square_root": 0.5, "class_balanced": 0.0}[balance]
    weights = {name: float(count) ** power for name, count in counts.items()}
    scale = total / sum(weights.values())
    return {name: scale * weight / counts[name] for name, weight in weights.items()}


@dataclass(frozen=True)
class Sampling:
    """The rates of every epoch of a training.

    Attributes:
        counts: training rows of each class, all greater than zero.
        balance: see `repeat_rates`.
        epochs: number of epochs that train the whole network, E. Later ones re-train the classifier, with balanced
            classes (cRT, Kang et al. 2020).
        threshold: threshold of `repeat_factor`.
    """

    counts: Mapping[str, int]
    balance: Balance
    epochs: int
    threshold: float = REPEAT_THRESHOLD

    def rates(self, epoch: int) -> dict[str, float]:
        """Return how often a row of each class is used in an epoch (counted from 0), on average."""
        if epoch >= self.epochs:
            return repeat_rates(self.counts, "class_balanced")
        return repeat_rates(self.counts, self.balance, self.threshold, epoch / self.epochs)

    def rows(self, epoch: int) -> int:
        """Return the expected number of rows of an epoch: the training set's, or more with `repeat_factor`."""
        return round(sum(rate * self.counts[name] for name, rate in self.rates(epoch).items()))


class Resample:
    """Stage that repeats each row of a batch at random, at the rate of its class in the epoch.

    Args:
        sampling: rates of the classes.
        seed: seed of the training.
        epoch: function that returns the current epoch, counted from 0; called once per batch.
    """

    def __init__(self, sampling: Sampling, seed: int, epoch: Callable[[], int]) -> None:
        self._sampling = sampling
        self._seed = seed
        self._epoch = epoch

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the repeated rows, in order; there may be none.

        Args:
            batch: columns with one value per row, including `genre_top`, `track_id` (strings) and `clip_index`
                (integers).

        Raises:
            FeaturesError: a row's genre was not among those counted.
        """
        repeats = self.repeats(batch)
        return {name: np.repeat(values, repeats, axis=0) for name, values in batch.items()}

    def repeats(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return how often each row of a batch is used: int64, 0 or more.

        Args:
            batch: as for a call; other columns are ignored.

        Raises:
            FeaturesError: a row's genre was not among those counted.
        """
        epoch = self._epoch()
        rates = self._sampling.rates(epoch)
        strange = sorted({str(genre) for genre in batch["genre_top"] if genre not in rates})
        if strange:
            raise FeaturesError(
                f"training data: the genre(s) {', '.join(strange)} were not there when the rows were counted; "
                "do not change the features while a job trains on them."
            )
        rate_B = np.array([rates[genre] for genre in batch["genre_top"]], dtype=np.float64)
        whole_B = np.floor(rate_B)
        return (whole_B + (self._uniform(batch, epoch) < rate_B - whole_B)).astype(np.int64)

    def _uniform(self, batch: Mapping[str, np.ndarray], epoch: int) -> np.ndarray:
        """Return a number in [0, 1) for each row, different for each row and epoch."""
        seed = derive_seed(self._seed, epoch)
        rows = zip(batch["track_id"], batch["clip_index"], strict=True)
        return np.array([place(f"{clip}:{track}", seed) for track, clip in rows], dtype=np.float64)
