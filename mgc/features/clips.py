"""Clips of features: the output of a front end, and how a features table stores them.

Axes: N clips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mgc.errors import FeaturesError
from mgc.schema import FEATURE_DTYPES

Dtype = Literal["uint8", "float16", "float32"]
"""Stored type of one number of a feature; one of `mgc.schema.FEATURE_DTYPES`."""


@dataclass(frozen=True, eq=False)
class Clips:
    """Features of one or more clips, in order of time.

    Attributes:
        features: uint8, float16 or float32, C-contiguous. A clip is a vector (clips, numbers), rows over time (clips,
            bins, frames; bin 0 is the lowest) or an image (clips, height, width, colours; line 0 is the top).
        start_seconds: float64, shape (clips,): start of each clip in the track.

    Raises:
        ValueError: a field is not as described.
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
            raise ValueError(f"Clips.start_seconds must be float64, one per clip ({len(self.features)}), got {found}.")


def read_clips(
    features: pa.Array | pa.ChunkedArray, shape: tuple[int, ...], dtype: str | np.dtype[Any]
) -> NDArray[Any]:
    """Return the clips of a `features` column as one array.

    Args:
        features: binary or large binary, a clip in each row.
        shape: of a clip, C-ordered.
        dtype: of a number.

    Returns:
        Clips, (N, *shape). Those of a single chunk share the column's memory and are read-only.

    Raises:
        FeaturesError: a clip is missing or has another size.
    """
    chunks = features.chunks if isinstance(features, pa.ChunkedArray) else [features]
    clips = [_read_chunk(chunk, shape, np.dtype(dtype)) for chunk in chunks if len(chunk)]
    if not clips:
        return np.empty((0, *shape), dtype)
    return clips[0] if len(clips) == 1 else np.concatenate(clips)


def _read_chunk(features: pa.Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    _, ends, data = features.buffers()
    width = np.dtype(np.int64 if pa.types.is_large_binary(features.type) else np.int32)
    ends_N = np.frombuffer(ends, width, len(features) + 1, features.offset * width.itemsize)
    numbers = math.prod(shape)
    if features.null_count or (np.diff(ends_N) != numbers * dtype.itemsize).any():
        side = " x ".join(map(str, shape))
        raise FeaturesError(
            f"features: a clip is not {side} numbers of {dtype}, as their metadata says; prepare the features again."
        )
    return np.frombuffer(data, dtype, len(features) * numbers, int(ends_N[0])).reshape(-1, *shape)
