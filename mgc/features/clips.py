"""What a front end makes of a listened window: clips of features, each with its time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Clips:
    """Features of one or more clips, in order of time.

    Attributes:
        features: uint8, C-contiguous, shape (clips, bins, frames); bin 0 is the lowest.
        start_seconds: float64, shape (clips,): where in the track each clip begins.

    Raises:
        ValueError: a field is not of this kind.
    """

    features: NDArray[np.uint8]
    start_seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.features.dtype != np.uint8 or self.features.ndim != 3 or not self.features.flags.c_contiguous:
            found = f"{self.features.dtype} {self.features.shape}"
            raise ValueError(f"Clips.features must be C-contiguous uint8 of shape (clips, bins, frames), got {found}.")
        if self.start_seconds.dtype != np.float64 or self.start_seconds.shape != self.features.shape[:1]:
            found = f"{self.start_seconds.dtype} {self.start_seconds.shape}"
            raise ValueError(f"Clips.start_seconds must be float64, one a clip ({len(self.features)}), got {found}.")
