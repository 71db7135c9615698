"""Class balance over a stream: how often each training row is repeated.

Rows are repeated before they are dealt out to workers, so every worker gets the same number of rows. A row of class c
with rate r is given floor(r) times, and once more with probability r - floor(r): exact in expectation, with no set held
in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np

from mgc.errors import ConfigError, FeaturesError

Balance = Literal["natural", "class_balanced", "square_root"]
"""See `wanted_shares`."""


def wanted_shares(counts: Mapping[str, int], balance: Balance) -> dict[str, float]:
    """The share of each class in what training sees.

    Args:
        counts: training rows of each class, all greater than zero.
        balance: `natural` keeps the shares; `class_balanced` makes them equal; `square_root` takes them proportional to
            the square root of the counts (Mahajan et al. 2018).

    Raises:
        ConfigError: a class has no rows.
    """
    empty = sorted(name for name, count in counts.items() if count <= 0)
    if empty or not counts:
        raise ConfigError(f"training data: no rows of the genre(s) {', '.join(empty) or '(none at all)'}.")
    power = {"natural": 1.0, "square_root": 0.5, "class_balanced": 0.0}[balance]
    weights = {name: float(count) ** power for name, count in counts.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def repeat_rates(counts: Mapping[str, int], balance: Balance) -> dict[str, float]:
    """How often a row of each class is given, on average, so that an epoch keeps the length of the training set.

    Args:
        counts: training rows of each class, all greater than zero.
        balance: see `wanted_shares`.

    Raises:
        ConfigError: a class has no rows.
    """
    total = sum(counts.values())
    return {name: share * total / counts[name] for name, share in wanted_shares(counts, balance).items()}


class Resample:
    """Stage: repeat each row of a batch as its class and one uniform number say.

    Args:
        rates: how often a row of each class is given on average, from `repeat_rates`.
    """

    column: Final = "resample_u"
    """Name of the uniform numbers in [0, 1), one a row, drawn anew each epoch by whoever feeds the stage."""

    def __init__(self, rates: Mapping[str, float]) -> None:
        self._rates = dict(rates)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows repeated, in order, without the uniform numbers; perhaps none.

        Args:
            batch: with `genre_top` (strings) and `resample_u` (float64), one a row.

        Raises:
            FeaturesError: a row's genre was not among those counted.
        """
        strange = sorted({str(genre) for genre in batch["genre_top"] if genre not in self._rates})
        if strange:
            raise FeaturesError(
                f"training data: the genre(s) {', '.join(strange)} were not there when the rows were counted; "
                "leave the features as they are while a job trains on them."
            )
        rate_B = np.array([self._rates[genre] for genre in batch["genre_top"]], dtype=np.float64)
        whole_B = np.floor(rate_B)
        repeats = (whole_B + (batch[self.column] < rate_B - whole_B)).astype(np.int64)
        return {name: np.repeat(values, repeats, axis=0) for name, values in batch.items() if name != self.column}
