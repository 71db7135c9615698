"""A stretch of one track's sound. T: samples in time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono samples, their rate and their place in the track.

    Attributes:
        samples: float32, C-contiguous, shape (T,), full scale ±1 (decoders may overshoot), all finite.
        sample_rate_hz: samples per second.
        start_seconds: place of the first sample in the track.

    Raises:
        ValueError: a field is not as described. Decoders guarantee finite samples; that is not checked again.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int
    start_seconds: float = 0.0

    def __post_init__(self) -> None:
        samples = self.samples
        if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 1:
            found = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
            raise ValueError(f"Waveform.samples must be mono float32 of shape (T,), got {found}.")
        if not samples.flags.c_contiguous:
            raise ValueError("Waveform.samples must be C-contiguous; pass np.ascontiguousarray(samples).")
        if not isinstance(self.sample_rate_hz, int) or self.sample_rate_hz <= 0:
            raise ValueError(f"Waveform.sample_rate_hz must be a whole number above 0, got {self.sample_rate_hz!r}.")
        if not (math.isfinite(self.start_seconds) and self.start_seconds >= 0):
            raise ValueError(f"Waveform.start_seconds must be 0 or more, got {self.start_seconds!r}.")

    def without_offset(self) -> Waveform:
        """Return this waveform less its mean: a constant offset is a fault of the recording, and nobody hears it."""
        mean = self.samples.mean(dtype=np.float64).astype(np.float32)
        return Waveform(self.samples - mean, self.sample_rate_hz, self.start_seconds)

    @property
    def duration_seconds(self) -> float:
        """Length of the waveform."""
        return len(self.samples) / self.sample_rate_hz
