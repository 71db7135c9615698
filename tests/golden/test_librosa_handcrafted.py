"""Hand-crafted vectors, against librosa asked for each feature by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mgc.audio.waveform import Waveform
from mgc.features.handcrafted import Handcrafted, HandcraftedConfig
from tests.golden.sounds import music

CONFIGS: list[dict[str, Any]] = [
    {},
    {"clip_seconds": 30.0},
    {"sample_rate_hz": 44100, "n_fft": 4096, "hop_length": 1024, "clip_seconds": 4.0},
    {"sample_rate_hz": 16123, "n_fft": 1998, "hop_length": 333, "clip_seconds": 3.3},
]


def librosa_rows(config: HandcraftedConfig, clip_T: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    import librosa

    framed = {"n_fft": config.n_fft, "hop_length": config.hop_length}
    rated = {"y": clip_T, "sr": config.sample_rate_hz}
    feature = librosa.feature
    onsets = librosa.onset.onset_strength(**rated, **framed)
    rows = {
        "tempo": feature.tempo(onset_envelope=onsets, sr=config.sample_rate_hz, hop_length=config.hop_length),
        "zero_crossing_rate": feature.zero_crossing_rate(
            clip_T, frame_length=config.n_fft, hop_length=config.hop_length
        ),
        "centroid": feature.spectral_centroid(**rated, **framed),
        "bandwidth": feature.spectral_bandwidth(**rated, **framed),
        "rolloff": feature.spectral_rolloff(**rated, **framed),
        "flatness": feature.spectral_flatness(y=clip_T, **framed),
        "chroma": feature.chroma_stft(**rated, **framed),
        "mfcc": feature.mfcc(**rated, **framed, n_mfcc=20),
    }
    if config.sample_rate_hz > 12_800:
        rows["contrast"] = feature.spectral_contrast(**rated, **framed)
    return rows


def clips(config: HandcraftedConfig) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    samples, size = music(2 * config.clip_seconds, config.sample_rate_hz), config.clip_samples
    features = Handcrafted(config)(Waveform(samples, config.sample_rate_hz)).features
    return features, [samples[:size], samples[size : 2 * size]]


@pytest.mark.parametrize("change", CONFIGS)
def test_means(change: dict[str, Any]) -> None:
    """Within a ten-thousandth: float32, and mel filters rounded otherwise."""
    config = HandcraftedConfig(**change)
    for vector, clip_T in zip(*clips(config), strict=True):
        rows = librosa_rows(config, clip_T)
        names = ("tempo", "zero_crossing_rate", "centroid", "flatness", "chroma", "contrast")
        expected = [*(rows[name].mean() for name in names), *rows["mfcc"].mean(axis=1)]
        assert len(vector) == len(Handcrafted(config).names) == 26
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("change", [*CONFIGS, {"sample_rate_hz": 8000, "n_fft": 512}])
def test_means_and_variances(change: dict[str, Any]) -> None:
    """Within a thousandth: float32 rows, squared."""
    config = HandcraftedConfig(statistics="means_and_variances", **change)
    for vector, clip_T in zip(*clips(config), strict=True):
        rows = librosa_rows(config, clip_T)
        order = ("mfcc", "chroma", "centroid", "bandwidth", "rolloff", "zero_crossing_rate")
        joined = np.concatenate([rows[name] for name in order]).astype(np.float64)
        assert len(vector) == len(Handcrafted(config).names) == 72
        np.testing.assert_allclose(vector[:36], joined.mean(axis=1), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(vector[36:], joined.var(axis=1), rtol=1e-3, atol=1e-3)
