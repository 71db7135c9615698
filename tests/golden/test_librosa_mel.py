"""Against librosa itself, which is the definition of these features."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mgc.audio.waveform import Waveform
from mgc.features.mel import LogMel, LogMelConfig, MelConfig
from mgc.features.mel_means import MelMeans, MelMeansConfig
from mgc.features.mel_power import mel_filters
from mgc.features.thumbnail import Thumbnail, ThumbnailConfig
from tests.golden.sounds import music


@pytest.fixture(autouse=True)
def _librosa_may_warn() -> Iterator[None]:
    # Many filters at a low rate leave some empty; librosa says so, we want its numbers all the same.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters detected")
        yield


@pytest.mark.parametrize(
    ("rate_hz", "n_fft", "n_mels", "f_min_hz", "f_max_hz"),
    [
        (22050, 2048, 128, 0.0, 11025.0),
        (44100, 2048, 128, 0.0, 22050.0),
        (48000, 2048, 128, 0.0, 24000.0),
        (96000, 2048, 128, 0.0, 48000.0),
        (16000, 512, 64, 60.0, 7800.0),
        (8000, 256, 128, 0.0, 4000.0),
        (22050, 4096, 20, 0.0, 900.0),
        (11025, 1024, 96, 1500.0, 5000.0),
    ],
)
def test_filters(rate_hz: int, n_fft: int, n_mels: int, f_min_hz: float, f_max_hz: float) -> None:
    import librosa

    expected = librosa.filters.mel(sr=rate_hz, n_fft=n_fft, n_mels=n_mels, fmin=f_min_hz, fmax=f_max_hz).T
    ours = mel_filters(rate_hz, n_fft, n_mels, f_min_hz, f_max_hz)
    # float32 of the same formula in float64.
    np.testing.assert_allclose(ours, expected, atol=1e-6 * expected.max())


def librosa_power(config: MelConfig, samples: NDArray[np.float32], clip: int) -> NDArray[np.float32]:
    """The mel power of the middle frames of a clip."""
    import librosa

    first = (1 + config.clip_samples // config.hop_length - config.frames) // 2
    power: NDArray[np.float32] = librosa.feature.melspectrogram(
        y=samples[clip * config.clip_samples : (clip + 1) * config.clip_samples],
        sr=config.sample_rate_hz,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.f_min_hz,
        fmax=config.f_max_hz,
    )[:, first : first + config.frames]
    return power


CONFIGS: list[dict[str, Any]] = [
    {},
    {"frames": 130},
    {"sample_rate_hz": 44100, "frames": 256},
    {"sample_rate_hz": 16000, "n_fft": 512, "hop_length": 160, "n_mels": 64, "clip_seconds": 2.0, "frames": 200},
    {"n_fft": 1024, "hop_length": 256, "n_mels": 96, "f_min_hz": 30.0, "f_max_hz": 8e3, "frames": 250, "top_db": 60.0},
    {"n_fft": 4096, "hop_length": 1024, "clip_seconds": 5.0, "frames": 100},
    {"sample_rate_hz": 11127, "n_fft": 1998, "hop_length": 333, "n_mels": 77, "clip_seconds": 1.7, "frames": 51},
]


@pytest.mark.parametrize("change", CONFIGS)
def test_log_mel(change: dict[str, Any]) -> None:
    """Within one of 256 steps in every bin: 0.5 from rounding, and 0.02 dB of float32 over the top 80 dB."""
    import librosa

    config = LogMelConfig(**change)
    samples = music(3 * config.clip_seconds, config.sample_rate_hz)
    ours = LogMel(config)(Waveform(samples, config.sample_rate_hz)).features
    assert len(ours) == 3
    for clip, features in enumerate(ours):
        power = librosa_power(config, samples, clip)
        expected_db = librosa.power_to_db(power, ref=np.max, top_db=config.top_db)
        ours_db = features.astype(np.float64) * (config.top_db / 255) - config.top_db
        step_db = config.top_db / 255
        assert np.abs(ours_db - expected_db).max() <= 0.5 * step_db + 0.02


@pytest.mark.parametrize(("reference_db", "top_db"), [(0.0, 80.0), (20.0, 100.0), (-30.0, 70.0), (33.3, 60.0)])
def test_log_mel_with_a_fixed_reference(reference_db: float, top_db: float) -> None:
    """Half a step from rounding, and 0.02 dB; above the reference it saturates."""
    import librosa

    config = LogMelConfig(reference_db=reference_db, top_db=top_db, f_max_hz=9000.0)
    samples = music(6.0, 22050)
    ours = LogMel(config)(Waveform(samples, 22050)).features
    for clip, features in enumerate(ours):
        db = librosa.power_to_db(librosa_power(config, samples, clip), ref=10 ** (reference_db / 10), top_db=None)
        ours_db = features.astype(np.float64) * (top_db / 255) - top_db
        assert np.abs(ours_db - db.clip(-top_db, 0)).max() <= 0.5 * top_db / 255 + 0.02
    assert (ours.max() == 255) == (reference_db < 33)


@pytest.mark.parametrize("change", [*CONFIGS, {"reference_db": 0.0}])
def test_mel_means(change: dict[str, Any]) -> None:
    """Within 0.005 dB: means of float32 decibels."""
    import librosa

    config = MelMeansConfig(**change)
    samples = music(3 * config.clip_seconds, config.sample_rate_hz)
    ours = MelMeans(config)(Waveform(samples, config.sample_rate_hz)).features
    for clip, means in enumerate(ours):
        power = librosa_power(config, samples, clip)
        if config.reference_db is None:
            db = librosa.power_to_db(power, ref=np.max, top_db=config.top_db)
        else:
            db = librosa.power_to_db(power, ref=10 ** (config.reference_db / 10), top_db=None).clip(-config.top_db, 0)
        np.testing.assert_allclose(means, db.mean(axis=1), atol=0.005, rtol=0)


@pytest.mark.parametrize("rate_hz", [16000, 44100, 48000, 96000])
@pytest.mark.parametrize("seconds", [1.0, 12.0])
@pytest.mark.parametrize("bins", [104, 128])
def test_thumbnail(rate_hz: int, seconds: float, bins: int) -> None:
    """Within rounding and 0.1 of 255 steps."""
    import librosa

    samples = music(seconds, rate_hz)
    power = librosa.feature.melspectrogram(y=samples, sr=rate_hz)[:bins]
    db = librosa.power_to_db(power, ref=np.max, amin=1e-30, top_db=80)
    columns = np.floor((np.arange(128) + 0.5) * db.shape[1] / 128).astype(int)
    expected = ((db + 80) * (255 / 80))[:, columns]
    ours = Thumbnail(ThumbnailConfig(sample_rate_hz=rate_hz, bins=bins))(Waveform(samples, rate_hz)).features[0]
    assert np.abs(ours - expected).max() <= 0.6
