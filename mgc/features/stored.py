"""Clips as a features table stores them: the bytes of each clip, whose shape and type the table's metadata state.

Axes: N clips.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mgc.errors import FeaturesError


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
        raise FeaturesError(f"features: a clip is not {side} numbers of {dtype}, as their metadata says.")
    return np.frombuffer(data, dtype, len(features) * numbers, int(ends_N[0])).reshape(-1, *shape)
