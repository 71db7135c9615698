"""What a front end makes of a listened window: clips of features, each with its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mgc.schema import FEATURE_DTYPES

Dtype = Literal["uint8", "float16", "float32"]
"""How one number of a feature is stored; the members of `mgc.schema.FEATURE_DTYPES`."""


@dataclass(frozen=True, eq=False)
class Clips:
    """Features of one or more clips, in order of time.

    Attributes:
        features: uint8, float16 or float32, C-contiguous. A clip is a vector (clips, numbers), rows over time (clips,
            bins, frames; bin 0 is the lowest) or an image (clips, height, width, colours; line 0 is the top).
        start_seconds: float64, shape (clips,): where in the track each clip begins.

    Raises:
        ValueError: a field is not of this kind.
    """

    features: NDArray[Any]
    start_seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        stored = self.features.dtype.name in FEATURE_DTYPES and self.features.flags.c_contiguous
        if not stored or not 2 <= self.features.ndim <= 4:
            found = f"{self.features.dtype} {self.features.shape}"
            raise ValueError(
                f"Clips.features must be C-contiguous {', '.join(FEATURE_DTYPES)} of shape (clips, …), got {found}."
            )
        if self.start_seconds.dtype != np.float64 or self.start_seconds.shape != self.features.shape[:1]:
            found = f"{self.start_seconds.dtype} {self.start_seconds.shape}"
            raise ValueError(f"Clips.start_seconds must be float64, one a clip ({len(self.features)}), got {found}.")
