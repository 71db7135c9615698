"""MFCC and the stack of mel and MFCC, against librosa."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mgc.audio.waveform import Waveform
from mgc.features.cepstra.mfcc import CepstralConfig, Mfcc, MfccConfig
from mgc.features.cepstra.mfcc_statistics import MfccStatistics, MfccStatisticsConfig
from mgc.features.stack import MelMfcc, MelMfccConfig
from mgc.models.blocks import cosine_transform
from tests.golden.sounds import music

HALF_PRECISION = 2.0**-11
"""float16 rounds to 11 bits."""

CONFIGS: list[dict[str, Any]] = [
    {"frames": 130},
    {},
    {"clip_seconds": 8.95, "frames": 385},
    {"sample_rate_hz": 16000, "n_fft": 512, "hop_length": 160, "n_mels": 40, "n_mfcc": 13, "frames": 300},
    {"sample_rate_hz": 11127, "n_fft": 1998, "hop_length": 333, "clip_seconds": 1.7, "frames": 51, "n_mfcc": 40},
    {"n_fft": 1024, "n_mels": 64, "n_mfcc": 64, "top_db": 50.0, "f_min_hz": 30.0, "f_max_hz": 8000.0},
]


def librosa_rows(config: CepstralConfig, clip_T: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Decibels and MFCC of a clip's middle frames."""
    import librosa

    first = (1 + config.clip_samples // config.hop_length - config.frames) // 2
    power = librosa.feature.melspectrogram(
        y=clip_T,
        sr=config.sample_rate_hz,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.f_min_hz,
        fmax=config.f_max_hz,
    )[:, first : first + config.frames]
    db = librosa.power_to_db(power, top_db=config.top_db)
    return db, librosa.feature.mfcc(S=db, n_mfcc=config.n_mfcc)


@pytest.mark.parametrize("change", CONFIGS)
def test_mfcc(change: dict[str, Any]) -> None:
    """Within float16's rounding, and 0.02 of float32's (up to 128 decibels go into each number)."""
    config = MfccConfig(**change)
    samples, size = music(2 * config.clip_seconds, config.sample_rate_hz), config.clip_samples
    ours = Mfcc(config)(Waveform(samples, config.sample_rate_hz)).features
    for clip, features in enumerate(ours):
        _, expected = librosa_rows(config, samples[clip * size : (clip + 1) * size])
        np.testing.assert_allclose(features.astype(np.float64), expected, rtol=HALF_PRECISION, atol=0.02)


def test_all_frames_are_the_very_defaults_of_librosa() -> None:
    import librosa

    samples = music(3.0, 22050)
    ours = Mfcc(MfccConfig(frames=130))(Waveform(samples, 22050)).features[0]
    expected = librosa.feature.mfcc(y=samples, sr=22050)
    np.testing.assert_allclose(ours.astype(np.float64), expected, rtol=HALF_PRECISION, atol=0.02)


@pytest.mark.parametrize("change", CONFIGS)
def test_the_stack(change: dict[str, Any]) -> None:
    """Each part within float16's rounding and 0.02."""
    config = MelMfccConfig(**change)
    samples, size = music(2 * config.clip_seconds, config.sample_rate_hz), config.clip_samples
    ours = MelMfcc(config)(Waveform(samples, config.sample_rate_hz)).features
    for clip, features in enumerate(ours):
        expected = np.concatenate(librosa_rows(config, samples[clip * size : (clip + 1) * size]))
        np.testing.assert_allclose(features.astype(np.float64), expected, rtol=HALF_PRECISION, atol=0.02)


def test_the_transform_is_orthonormal() -> None:
    dct_MK = cosine_transform(40, 40)
    torch.testing.assert_close(dct_MK @ dct_MK.T, torch.eye(40), atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", [{}, {"frames": 129}, {"clip_seconds": 8.95, "frames": 385}, {"n_mfcc": 13}])
def test_the_statistics_against_scipy(change: dict[str, Any]) -> None:
    """The seven of Defferrard et al. (2017), from librosa's MFCC by SciPy and NumPy."""
    from scipy import stats

    config = MfccStatisticsConfig(**change)
    samples, size = music(2 * config.clip_seconds, config.sample_rate_hz), config.clip_samples
    ours = MfccStatistics(config)(Waveform(samples, config.sample_rate_hz)).features
    assert ours.shape[1:] == (7, config.n_mfcc)
    for clip, features in enumerate(ours):
        _, mfcc = librosa_rows(config, samples[clip * size : (clip + 1) * size])
        rows = (np.mean, np.std, stats.skew, stats.kurtosis, np.median, np.min, np.max)
        for statistic, row in zip(rows, features, strict=True):
            np.testing.assert_allclose(row, statistic(mfcc, axis=1), rtol=1e-3, atol=0.01, err_msg=statistic.__name__)


def test_the_whole_clip_at_the_corpus_own_rate() -> None:
    """30 s at 44,100 Hz, as the corpus computed its numbers: nothing but librosa's defaults."""
    import librosa

    samples = music(30.0, 44100)
    config = MfccStatisticsConfig(sample_rate_hz=44100, clip_seconds=30.0, frames=2584)
    (ours,) = MfccStatistics(config)(Waveform(samples, 44100)).features
    mfcc = librosa.feature.mfcc(y=samples, sr=44100, n_mfcc=20)
    assert mfcc.shape == (20, 2584)
    np.testing.assert_allclose(ours[0], mfcc.mean(axis=1), atol=0.01)
    np.testing.assert_allclose(ours[6], mfcc.max(axis=1), atol=0.02)
