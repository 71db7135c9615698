"""A sound whose place can be recognised: no tenth of a second is like another.

T: samples in time, C: channels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

REFERENCE_HZ: Final = 8000
"""Rate at which sounds are compared: every file has this band, whatever its own rate."""

_STEP_SECONDS: Final = 0.1
_TONES: Final = 3
_LOWEST_HZ, _HIGHEST_HZ = 200.0, 3000.0
_FADE_SECONDS: Final = 0.005
_AMPLITUDE: Final = 0.12

_ALIKE: Final = 0.4
"""Least correlation of a place that is recognised. A wrong place reaches 0.3, a codec at 32 kbit/s 0.7."""


@lru_cache(maxsize=64)
def make_sound(seed: int, seconds: float, rate_hz: int) -> Samples:
    """Return (T,) float32 within ±0.36: every tenth of a second three tones, of random pitch and phase.

    The pitches lie between 200 and 3,000 Hz. The same seed gives the same sound at every rate.
    """
    count = round(seconds * rate_hz)
    steps = int(seconds / _STEP_SECONDS) + 1
    rng = np.random.default_rng(seed)
    hertz = rng.uniform(_LOWEST_HZ, _HIGHEST_HZ, (steps, _TONES))
    phases = rng.uniform(0, 2 * np.pi, (steps, _TONES))
    wave_T = np.zeros(count, np.float32)
    for step in range(steps):
        start, stop = round(step * _STEP_SECONDS * rate_hz), round((step + 1) * _STEP_SECONDS * rate_hz)
        time = np.arange(start, min(stop, count)) / rate_hz
        if not len(time):
            break
        tones = np.sin(2 * np.pi * hertz[step][:, None] * time + phases[step][:, None]).sum(axis=0)
        inside = np.minimum(time - start / rate_hz, stop / rate_hz - time)
        wave_T[start : start + len(time)] = _AMPLITUDE * tones * np.clip(inside / _FADE_SECONDS, 0, 1)
    wave_T.setflags(write=False)
    return wave_T


def silence(seconds: float) -> Samples:
    """Return a reference without sound."""
    return np.zeros(round(max(0.0, seconds) * REFERENCE_HZ), np.float32)


def to_reference(wave_T: Samples, rate_hz: int) -> Samples:
    """Return the sound at the reference rate, without its constant part."""
    wave_T = wave_T - wave_T.mean()
    if rate_hz == REFERENCE_HZ:
        return wave_T
    return np.asarray(soxr.resample(wave_T, rate_hz, REFERENCE_HZ, quality="LQ"), np.float32)


def loudness(wave_T: Samples) -> float:
    """Return the root of the mean square; 0 for no samples."""
    return float(np.sqrt(np.mean(np.square(wave_T, dtype=np.float64)))) if len(wave_T) else 0.0


def find_place(heard_T: Samples, reference_T: Samples) -> tuple[float, float]:
    """Find where in a longer sound a piece of it lies, whatever its level and its sign.

    Returns:
        Its start in seconds, and how much it is alike there, from 0 to 1. The start may be negative, and the end may
        lie beyond the reference: there is silence.
    """
    margin = len(heard_T) // 2
    padded_T = np.pad(reference_T, margin)
    size = 1 << (len(padded_T) + len(heard_T)).bit_length()
    product = np.fft.rfft(padded_T, size) * np.conj(np.fft.rfft(heard_T, size))
    places = len(padded_T) - len(heard_T) + 1
    if places < 1:
        return 0.0, 0.0
    scores = np.abs(np.fft.irfft(product, size)[:places])
    energy = np.concatenate([[0.0], np.cumsum(np.square(padded_T, dtype=np.float64))])
    energies = energy[len(heard_T) :] - energy[: len(energy) - len(heard_T)]
    # A place of next to no energy would be like anything.
    floor = max(1e-12, 0.05 * float(energies.max()))
    alike = scores / np.sqrt(
        np.maximum(energies, floor) * max(float(np.sum(np.square(heard_T, dtype=np.float64))), 1e-12)
    )
    best = int(np.argmax(alike))
    return (best - margin) / REFERENCE_HZ, float(alike[best])


def is_alike(correlation: float) -> bool:
    """Return whether a correlation tells the place of a sound."""
    return correlation >= _ALIKE
