"""Power spectra against NumPy's own in float64."""

from __future__ import annotations

import numpy as np
import pytest

from mgc.audio.spectrum import power_spectrum


@pytest.mark.parametrize("samples", [64, 2_205, 4_096, 4_410, 9_600])
@pytest.mark.parametrize("gain", [1e-4, 1.0, 1e6])
def test_the_power_is_that_of_float64(samples: int, gain: float) -> None:
    frames_BN = (gain * np.random.default_rng(samples).standard_normal((5, samples))).astype(np.float32)
    exact_BF = np.abs(np.fft.rfft(frames_BN.astype(np.float64)))
    power_BF = power_spectrum(frames_BN)
    assert power_BF.dtype == np.float32
    np.testing.assert_allclose(np.sqrt(power_BF), exact_BF, rtol=0, atol=1e-6 * exact_BF.max())


def test_rounding_stays_far_below_a_tone() -> None:
    """The treble of music may lie 90 dB below its bass, and must not drown in the noise of the transform."""
    tone_N = np.sin(2 * np.pi * 64.0 / 4_096 * np.arange(4_096)) * np.kaiser(4_096, 14.0)
    power_F = power_spectrum(tone_N.astype(np.float32)[None])[0]
    assert power_F[200:].max() < 10**-12.5 * power_F.max()


def test_no_frames() -> None:
    assert power_spectrum(np.empty((0, 64), np.float32)).shape == (0, 33)
