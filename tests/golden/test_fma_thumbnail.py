"""Against features of real music that others computed. Needs the development data, which is no part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mgc.audio.decode import decode
from mgc.audio.excerpts import ListeningPlan
from mgc.features.thumbnail import Thumbnail, ThumbnailConfig


@pytest.fixture
def data() -> Path:
    folder = Path(os.environ.get("MGC_TEST_DATA") or "unset")
    if not (folder / "fma_small_mels.parquet").exists():
        pytest.skip("MGC_TEST_DATA does not name a folder with fma_small_mels.parquet and fma/audio_000")
    return folder


def test_track_2_of_fma_small(data: Path) -> None:
    rows = pq.read_table(data / "fma_small_mels.parquet", columns=["mel_u8"], filters=[("track_id", "=", 2)])
    published = np.frombuffer(rows["mel_u8"][0].as_py(), np.uint8).reshape(128, 128)[:104].astype(np.float64)
    heard = decode((data / "fma" / "audio_000" / "000002.mp3").read_bytes(), ListeningPlan())
    assert heard.damage is None
    assert len(heard.windows) == 1
    ours = Thumbnail(ThumbnailConfig())(heard.windows[0]).features[0]
    difference = ours - published
    assert np.sqrt(np.mean(difference**2)) < 1.0
    assert np.abs(difference).max() <= 4
