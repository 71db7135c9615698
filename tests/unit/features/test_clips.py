"""Clips out of the column that stores them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mgc.errors import FeaturesError
from mgc.features.clips import read_clips

CLIPS = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_clips_come_back_whatever_the_chunks(kind: pa.DataType) -> None:
    column = pa.array([clip.tobytes() for clip in CLIPS], kind)
    np.testing.assert_array_equal(read_clips(column, (2, 3), "float32"), CLIPS)
    # A slice begins inside of the buffers.
    np.testing.assert_array_equal(read_clips(column[2:4], (2, 3), "float32"), CLIPS[2:4])
    chunked = pa.chunked_array([column[:1], column[1:1], column[1:]])
    np.testing.assert_array_equal(read_clips(chunked, (2, 3), "float32"), CLIPS)
    assert read_clips(pa.chunked_array([], kind), (2, 3), "float32").shape == (0, 2, 3)
    assert np.shares_memory(read_clips(column, (2, 3), "float32"), np.frombuffer(column.buffers()[2], np.uint8))


@pytest.mark.parametrize("wrong", [None, b"", bytes(23), bytes(25), bytes(48)])
def test_a_clip_of_another_size_is_refused(wrong: bytes | None) -> None:
    column = pa.array([bytes(24), wrong, bytes(24)], pa.binary())
    with pytest.raises(FeaturesError, match=r"2 x 3 .*float32"):
        read_clips(column, (2, 3), "float32")
    # The sizes are checked one by one: their sum may be right.
    with pytest.raises(FeaturesError):
        read_clips(pa.array([bytes(20), bytes(28)], pa.binary()), (2, 3), "float32")
