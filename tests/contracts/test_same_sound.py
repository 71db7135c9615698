"""What every front end promises about one sound in different files: at another rate, quieter, with an offset.

F: frequencies, T: samples in time.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from mgc.audio.waveform import Waveform
from mgc.features.front_end import build_front_end
from tests.contracts.test_front_ends import CONFIGS, LOUD

RATES_HZ = (22050, 32000, 44100, 48000, 96000, 192_000)

SECONDS = 7.0
HIGHEST_HZ = 9500.0
"""All sound is below: no file of these rates lacks any of it, and every resampler lets it pass."""

TOLERANCES = {
    "uint8": 1.0,  # a step
    "mel_image": 4.0,  # a step changes a colour by up to 3
    "mel_image 220 x 216": 4.0,
    "mel_means": 0.05,  # decibels
    "mfcc": 0.6,  # float16 of coefficients of some hundreds
    "mfcc_statistics": 0.6,
    "mel_mfcc": 0.6,
    "lpcc": 0.02,
}
"""Largest difference between two files of one sound."""


@functools.lru_cache
def sound(rate_hz: int) -> Waveform:
    """Sixty swelling tones, computed at the rate itself: no resampler of ours made the files."""
    random = np.random.default_rng(7)
    time_T = np.arange(round(SECONDS * rate_hz)) / rate_hz
    samples_T = np.zeros(len(time_T))
    for frequency_hz in np.geomspace(60.0, HIGHEST_HZ, 60):
        swell_hz, phase, start = random.uniform(0.5, 4.0), *random.uniform(0, 2 * np.pi, 2)
        tone_T = np.sin(2 * np.pi * frequency_hz * time_T + phase)
        samples_T += (1.1 + np.sin(2 * np.pi * swell_hz * time_T + start)) * tone_T / frequency_hz**0.5
    # Without a click at either end, which has all frequencies.
    samples_T *= np.minimum(1, np.minimum(time_T, SECONDS - time_T) / 0.2).clip(0)
    return Waveform((0.2 * samples_T / np.abs(samples_T).max()).astype(np.float32), rate_hz, 0.0)


def changed(window: Waveform, gain: float, offset: float = 0.0) -> Waveform:
    return Waveform((window.samples * gain + offset).astype(np.float32), window.sample_rate_hz, window.start_seconds)


def features(name: str, window: Waveform) -> np.ndarray:
    return build_front_end(CONFIGS[name])(window).features.astype(np.float64)


def assert_same(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    if name.startswith("handcrafted"):
        # Hertz, shares and decibels side by side.
        np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02)
        return
    tolerance = TOLERANCES.get(name, TOLERANCES["uint8"])
    assert np.abs(found - expected).max() <= tolerance


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_at_another_rate(name: str, rate_hz: int) -> None:
    assert_same(name, features(name, sound(rate_hz)), features(name, sound(44100)))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in LOUD])
@pytest.mark.parametrize("level_db", [-30, -60, -90])
def test_at_another_level(name: str, level_db: int) -> None:
    window = sound(44100)
    assert_same(name, features(name, changed(window, 10 ** (level_db / 20))), features(name, window))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("offset", [0.1, -0.7])
def test_with_a_constant_offset_something_is_heard(name: str, offset: float) -> None:
    """Decoding takes an offset out. A front end that meets one still gives finite, different numbers."""
    found = features(name, changed(sound(44100), 1.0, offset))
    assert np.isfinite(found).all()
    assert len(np.unique(found)) > 10
