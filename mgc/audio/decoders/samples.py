"""Samples that a program holds in an array, as a stream. T: samples in time, C: channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mgc.audio.decoders.mixing import Mixer
from mgc.audio.decoders.stream import RATES_HZ, DecoderName, Fault, Stretch
from mgc.audio.excerpts import Excerpt
from mgc.audio.waveform import Waveform


def mix_samples(samples: NDArray[np.floating], sample_rate_hz: int) -> Waveform:
    """Return samples as a mono waveform, mixed as those of a file are.

    Args:
        samples: floats of shape (T,) or (C, T), full scale ±1.
        sample_rate_hz: samples per second, 1,000 to 768,000.

    Raises:
        ValueError: an argument is not as described.
    """
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples are floats with a full scale of 1, not {samples.dtype}; divide by their full scale.")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 0 < len(samples) <= 64):
        raise ValueError(f"samples have the shape (samples,) or (channels, samples), not {samples.shape}.")
    if sample_rate_hz not in RATES_HZ:
        raise ValueError(f"sample_rate_hz is {RATES_HZ.start} to {RATES_HZ.stop - 1}, not {sample_rate_hz}.")
    wave_CT = np.atleast_2d(samples)
    mixer = Mixer(wave_CT.shape[1], len(wave_CT))
    mixer.add(list(wave_CT))
    return Waveform(mixer.finish(), int(sample_rate_hz))


class SamplesStream:
    """A waveform as a stream. See `mgc.audio.decoders.stream.Stream`."""

    tolerance_seconds = 0.0
    announced_seconds: float | None = None
    decoder: DecoderName = "samples"

    def __init__(self, waveform: Waveform) -> None:
        self.sample_rate_hz = waveform.sample_rate_hz
        self.duration_seconds = waveform.duration_seconds
        self.fault: Fault | None = None
        self._samples_T = waveform.samples

    def read(self, excerpts: Sequence[Excerpt]) -> Iterator[Stretch]:
        """Copy one stretch after the other."""
        for start_seconds, seconds in excerpts:
            first = round(start_seconds * self.sample_rate_hz)
            part_T = self._samples_T[first : first + round(seconds * self.sample_rate_hz)]
            yield Stretch(part_T.copy(), self.sample_rate_hz, first / self.sample_rate_hz)

    def close(self) -> None:
        """Release nothing: the samples belong to the caller."""
