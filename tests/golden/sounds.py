"""A sound like music, for comparisons with other programs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def music(seconds: float, rate_hz: int) -> NDArray[np.float32]:
    """Chords with beats over a little noise: loud and quiet, tonal and flat, some 90 dB from top to bottom."""
    rng = np.random.default_rng(11)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = sum(np.sin(2 * np.pi * pitch_hz * time) for pitch_hz in (110.0, 277.2, 659.3, 1318.5, 3520.0))
    beats = np.exp(-8 * (2 * time % 1)) * rng.standard_normal(len(time))
    return (0.1 * tones * (time % 4 < 3) + 0.2 * beats + 1e-4 * rng.standard_normal(len(time))).astype(np.float32)
