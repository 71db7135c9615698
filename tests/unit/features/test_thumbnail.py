from __future__ import annotations

import numpy as np
import pytest

from mgc.audio.waveform import Waveform
from mgc.features.thumbnail import Thumbnail, ThumbnailConfig


def noise(frames: int, rate_hz: int = 44100) -> Waveform:
    """Noise of so many frames."""
    samples = np.random.default_rng(3).standard_normal((frames - 1) * 512 + 100)
    return Waveform(samples.astype(np.float32), rate_hz, 5.0)


@pytest.mark.parametrize("frames", [2, 90, 128, 129, 700, 2583])
@pytest.mark.parametrize("rate_hz", [8000, 44100, 96000])
def test_one_window_is_one_clip(frames: int, rate_hz: int) -> None:
    front_end = Thumbnail(ThumbnailConfig())
    made = front_end(noise(frames, rate_hz))
    assert made.features.shape == (1, *front_end.shape) == (1, 128, 128)
    assert made.start_seconds.tolist() == [5.0]


def test_columns_are_the_frames_of_the_formula() -> None:
    """A pulse in one frame lights the columns that stand for it, and no other."""
    front_end = Thumbnail(ThumbnailConfig(columns=64))
    for frames in (40, 64, 400):
        samples = np.zeros((frames - 1) * 512 + 100, np.float32)
        pulse = frames // 2
        samples[pulse * 512] = 1.0
        made = front_end(Waveform(samples, 22050)).features[0]
        # A frame is four hops long: the pulse stands in frames pulse - 1 to pulse + 1, and at the edge of two more.
        frame_of = np.floor((np.arange(64) + 0.5) * frames / 64).astype(int)
        np.testing.assert_array_equal(made.max(axis=0) > 128, np.abs(frame_of - pulse) <= 1)


def test_scale_spans_the_window() -> None:
    fade = noise(1000).samples * np.linspace(1e-9, 1, 999 * 512 + 100, dtype=np.float32)
    made = Thumbnail(ThumbnailConfig(columns=1000))(Waveform(fade, 44100)).features[0]
    assert made.min() == 0
    assert made.max() == 255
    steady = Thumbnail(ThumbnailConfig(columns=1000))(noise(1000)).features[0]
    # The lowest value is 0 though nothing here is 80 dB below the maximum.
    assert steady.min() == 0
    assert steady.max() == 255


def test_silence_is_zero() -> None:
    assert Thumbnail(ThumbnailConfig())(Waveform(np.zeros(44100, np.float32), 44100)).features.max() == 0


def test_chunks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    window = noise(700)
    expected = Thumbnail(ThumbnailConfig())(window).features.astype(int)
    monkeypatch.setattr("mgc.features.thumbnail._FRAMES_AT_ONCE", 7)
    # Another split may round another way, by one step at most.
    assert np.abs(Thumbnail(ThumbnailConfig())(window).features.astype(int) - expected).max() <= 1
