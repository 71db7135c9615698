"""Tell sounds that never change from music. T: samples in time, B: frames, F: frequency bins, K: bands.

A test tone, white noise, hum and a carrier have one thing in common: nothing happens in them. In music something does,
in at least one part of its spectrum: notes begin and end, tones beat, a voice moves.

The power of Gaussian noise in a band of width W, measured over a time S, has a relative deviation of 1 / sqrt(W S)
(Bendat and Piersol, Random Data, 4th ed., section 8.5). A tone has none. So a window is steady if the power of each
band that matters varies no more than noise does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mgc.audio.spectrum import power_spectrum

FRAME_SECONDS: Final = 0.1

FEWEST_FRAMES: Final = 50
"""A window of less than 5 s is too short to say that nothing changes in it: it may be one held chord."""

TOLERANCE: Final = 2.5
"""A band may vary by this factor more than noise does. In 3 to 30 s, noise of three colours at six rates came to 1.9 at
most, and the band of real music that varies most to 8.7 at least (99 windows of 60 recordings)."""

TONE_DEVIATION: Final = 0.1
"""Relative deviation that any band may have, so that a tone may be coded with loss."""

WEAKEST_SHARE: Final = 1e-3
"""Bands with less than this share of the power (-30 dB) do not matter: what a codec leaves there may come and go."""

_EDGES_HZ: Final = np.concatenate([np.arange(50.0, 1050.0, 200.0), np.geomspace(1050.0, 16_000.0, 14)])
"""Edges of the bands. None is narrower than 200 Hz: in narrower ones, noise varies as much as a tone with tremolo."""


def is_steady(mono_T: NDArray[np.float32], sample_rate_hz: int) -> bool:
    """Return whether nothing changes in a window: a tone, a hum, or noise of any colour.

    Args:
        mono_T: samples, float32, shape (T,), all finite.
        sample_rate_hz: samples per second.
    """
    size = round(FRAME_SECONDS * sample_rate_hz)
    frames = len(mono_T) // size if size else 0
    if frames < FEWEST_FRAMES:
        return False
    frames_BN = mono_T[: frames * size].reshape(frames, size)
    # Most music changes in its first seconds, so most windows need no more.
    return _varies_little(frames_BN[:FEWEST_FRAMES], sample_rate_hz) and _varies_little(frames_BN, sample_rate_hz)


def _varies_little(frames_BN: NDArray[np.float32], sample_rate_hz: int) -> bool:
    power_BK, widths_hz_K = _band_powers(frames_BN, sample_rate_hz)
    mean_K = power_BK.mean(axis=0)
    matters_K = (mean_K >= WEAKEST_SHARE * mean_K.sum()) & (mean_K > 0)
    deviation_K = power_BK.std(axis=0)[matters_K] / mean_K[matters_K]
    # The taper leaves two thirds of a frame's independent values.
    expected_K = 1 / np.sqrt(widths_hz_K[matters_K] * FRAME_SECONDS * 2 / 3)
    return bool(matters_K.any() and (deviation_K <= np.maximum(TOLERANCE * expected_K, TONE_DEVIATION)).all())


def _band_powers(
    frames_BN: NDArray[np.float32], sample_rate_hz: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the power of each band in each frame, and the bands' widths in hertz."""
    size = frames_BN.shape[1]
    spectrum_BF = power_spectrum(frames_BN * np.hanning(size).astype(np.float32))
    hz_F = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    edges_hz = _EDGES_HZ[: np.searchsorted(_EDGES_HZ, sample_rate_hz / 2, side="right")]
    starts_K = np.searchsorted(hz_F, edges_hz)
    power_BK = np.add.reduceat(spectrum_BF[:, : starts_K[-1]], starts_K[:-1], axis=1)
    return power_BK, np.diff(hz_F[np.minimum(starts_K, len(hz_F) - 1)])
