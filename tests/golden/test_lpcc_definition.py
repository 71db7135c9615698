"""Linear predictive cepstra, against SciPy's solver, librosa's predictor and the definition of the cepstrum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter

from mgc.audio.waveform import Waveform
from mgc.features.cepstra.lpcc import Lpcc, LpccConfig, cepstrum, linear_predictor
from tests.golden.sounds import music

CONFIGS: list[dict[str, Any]] = [
    {},
    {"frames": 130, "order": 12, "n_coefficients": 30},
    {"sample_rate_hz": 16000, "frame_length": 400, "hop_length": 160, "frames": 290, "order": 16, "pre_emphasis": 0.0},
    {"sample_rate_hz": 11127, "frame_length": 998, "hop_length": 333, "clip_seconds": 1.7, "frames": 51, "order": 5},
]


def cepstrum_by_definition(predictor: NDArray[np.float64], coefficients: int) -> NDArray[np.float64]:
    """From the logarithm of the spectrum |1 / A|², whose cepstrum is that of 1 / A and its mirror image."""
    size = 1 << 16
    response = np.fft.rfft(np.concatenate([[1.0], -predictor]), size)
    return np.asarray(np.fft.irfft(-2 * np.log(np.abs(response)), size)[1 : 1 + coefficients])


@pytest.mark.parametrize("order", [1, 2, 12, 30])
def test_cepstrum_is_that_of_the_log_spectrum(order: int) -> None:
    lags = np.correlate(music(0.1, 22050), music(0.1, 22050), "full")[2204 : 2204 + 1 + order].astype(np.float64)
    lags[0] *= 1.001
    predictor = linear_predictor(torch.from_numpy(lags))
    ours = cepstrum(predictor, 25).numpy()
    np.testing.assert_allclose(ours, cepstrum_by_definition(predictor.numpy(), 25), atol=1e-8)


@pytest.mark.parametrize("order", [1, 2, 12, 30])
def test_predictor_solves_the_normal_equations(order: int) -> None:
    waves = np.stack([music(0.1, 22050), np.random.default_rng(0).standard_normal(2205).astype(np.float32)])
    lags = np.stack([np.correlate(wave, wave, "full")[2204 : 2204 + 1 + order] for wave in waves]).astype(np.float64)
    lags[:, 0] *= 1.001
    ours = linear_predictor(torch.from_numpy(lags)).numpy()
    for predictor, row in zip(ours, lags, strict=True):
        np.testing.assert_allclose(predictor, solve_toeplitz(row[:-1], row[1:]), atol=1e-8)


def test_predictor_finds_the_filter_that_made_a_sound_as_librosa_does() -> None:
    """Burg's method and ours are two estimates of the same poles: within 0.02 of each other and of the truth."""
    import librosa

    poles = np.array([0.95 * np.exp(0.3j), 0.9 * np.exp(1.1j), 0.8 * np.exp(2.2j)])
    truth = np.poly(np.concatenate([poles, poles.conj()])).real
    sound = lfilter([1.0], truth, np.random.default_rng(5).standard_normal(400_000))
    lags = np.array([sound[: len(sound) - lag] @ sound[lag:] for lag in range(7)])
    ours = -linear_predictor(torch.from_numpy(lags)).numpy()
    np.testing.assert_allclose(ours, truth[1:], atol=0.02)
    np.testing.assert_allclose(ours, librosa.lpc(sound, order=6)[1:], atol=0.02)


@pytest.mark.parametrize("change", CONFIGS)
def test_clips(change: dict[str, Any]) -> None:
    """From samples to coefficients: float16's rounding, and 0.01 of the float32 transform of the frames."""
    config = LpccConfig(**change)
    samples = music(config.clip_seconds, config.sample_rate_hz)
    ours = Lpcc(config)(Waveform(samples, config.sample_rate_hz)).features[0].astype(np.float64)
    emphasized = np.append(samples[0], samples[1:] - config.pre_emphasis * samples[:-1].astype(np.float64))
    half = config.frame_length // 2
    padded = np.concatenate([np.zeros(half), emphasized, np.zeros(half)])
    first = (1 + config.clip_samples // config.hop_length - config.frames) // 2
    hann = np.hanning(config.frame_length + 1)[:-1]
    for column in range(0, config.frames, 10):
        begin = (first + column) * config.hop_length
        frame = padded[begin : begin + config.frame_length] * hann
        lags = np.array([frame[: len(frame) - lag] @ frame[lag:] for lag in range(config.order + 1)])
        lags[0] = lags[0] * (1 + 1e-5) + 1e-10
        expected = cepstrum_by_definition(solve_toeplitz(lags[:-1], lags[1:]), config.n_coefficients)
        np.testing.assert_allclose(ours[:, column], expected, rtol=2.0**-11, atol=0.01)
