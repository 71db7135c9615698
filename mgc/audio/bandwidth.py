"""Measure up to which frequency a window has sound. T: samples in time, B: frames, N: samples of a frame, F: bins.

Files have less than half their sample rate if they were resampled, came through a telephone, or were encoded by a codec
with a low-pass, such as MP3 at a low bit rate. Above that edge there is nothing, or only the noise of rounding.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mgc.audio.spectrum import power_spectrum

_FRAMES: Final = 32
"""Largest number of spectra that are averaged. They lie evenly among the loud frames of the window."""

_FRAME_SECONDS: Final = 0.09
"""A frame has the power of two samples that is nearest: at 44.1 kHz 4,096, so that bins are 10.8 Hz apart."""

_LOUD: Final = 1e-4
"""Frames within 40 dB of the loudest are loud. What is quieter says nothing of the highest frequencies."""

_CLICKS: Final = 16
"""Of so many spectra, the strongest is left out at each frequency. A click has all frequencies."""

_SMOOTH_BINS: Final = 5

_LOWEST_HZ: Final = 30.0
"""Below is a drift of the offset, no sound."""

_PRACTICALLY_NOTHING: Final = 1e-9
"""Share of the highest power density below which there is nothing: -90 dB. Treble is often 60 dB below the bass."""

_ROUNDING_POWER: Final = 2.0**-32
"""Power of 16-bit rounding with triangular dither, a quarter of a squared step, spread up to half the rate."""

_ABOVE_ROUNDING: Final = 10.0
"""Sound is at least 10 dB above the noise of rounding, whose average over few spectra is uneven."""

_NO_FLOOR: Final = 1e-3
"""A floor less than 30 dB below the highest density is sound: noise, or music close to the step of 16 bits."""


def measure_bandwidth_hz(mono_T: NDArray[np.float32], sample_rate_hz: int) -> float:
    """Return the frequency above which a window has practically nothing.

    The result is some 50 Hz above a sharp edge. On a gentle slope, it is where the power density falls to 90 dB below
    its highest, or into the noise of 16-bit rounding, above which weak music has little treble. Noise-shaped dither
    counts as sound.

    Args:
        mono_T: samples of a window that is not silent (`mgc.audio.silence`), float32, shape (T,), full scale ±1, all
            finite.
        sample_rate_hz: samples per second.

    Returns:
        Frequency in Hz, at most half the sample rate.
    """
    density_F = _density(mono_T, sample_rate_hz)
    hz_F = np.linspace(0, sample_rate_hz / 2, len(density_F))
    audible_F = density_F[hz_F >= min(_LOWEST_HZ, sample_rate_hz / 8)]
    peak = float(audible_F.max())
    # Without a floor of rounding, as in decoded MP3s, sound may lie below where the floor would be.
    floor = min(_ROUNDING_POWER / (sample_rate_hz / 2), float(np.percentile(audible_F, 5))) * _ABOVE_ROUNDING
    threshold = max(peak * _PRACTICALLY_NOTHING, min(floor, peak * _NO_FLOOR))
    return float(hz_F[np.flatnonzero(density_F > threshold)[-1]])


def _density(mono_T: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float64]:
    """Return the mean power density in squared full scale per Hz, smoothed over 5 bins, from 0 to half the rate."""
    samples = 2 ** max(round(np.log2(_FRAME_SECONDS * sample_rate_hz)), 6)
    if len(mono_T) < samples:
        mono_T = np.pad(mono_T, (0, samples - len(mono_T)))
    frames_BN = mono_T[: len(mono_T) // samples * samples].reshape(-1, samples)
    energy_B = np.einsum("bn,bn->b", frames_BN, frames_BN) - samples * np.square(frames_BN.mean(axis=1))
    loud = np.flatnonzero(energy_B >= _LOUD * energy_B.max())
    loud = loud[np.linspace(0, len(loud) - 1, min(_FRAMES, len(loud))).round().astype(int)]
    loud_BN = frames_BN[loud] - frames_BN[loud].mean(axis=1, keepdims=True)
    taper_N = _taper(samples)
    power_BF = power_spectrum(loud_BN * taper_N)
    dropped = len(power_BF) // _CLICKS
    for _ in range(dropped):
        power_BF[power_BF.argmax(axis=0), np.arange(power_BF.shape[1])] = 0
    mean_F = power_BF.sum(axis=0, dtype=np.float64) / (len(power_BF) - dropped)
    padded_F = np.pad(mean_F, _SMOOTH_BINS // 2, mode="edge")
    smooth_F = np.convolve(padded_F, np.full(_SMOOTH_BINS, 1 / _SMOOTH_BINS), mode="valid")
    return 2 * smooth_F / (sample_rate_hz * float(taper_N @ taper_N))


@functools.lru_cache(maxsize=4)
def _taper(samples: int) -> NDArray[np.float32]:
    """Return a window whose side lobes are 105 dB down, so that bass does not leak into empty treble."""
    return np.kaiser(samples, 14.0).astype(np.float32)
