"""Facts that a parser has found so far, and a check that they make sense."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from mgc.audio.probe.facts import BitRateMode, Certainty, Probe
from mgc.audio.source import ByteRange

MAX_SAMPLE_RATE_HZ: Final = 768_000
MAX_CHANNELS: Final = 64
"""A header that states more than these is wrong: the field becomes None."""


@dataclass
class Found:
    """Facts that a parser collects, unchecked. See `Probe` for the fields."""

    container: str
    audio: ByteRange
    tags: tuple[str, ...] = ()
    codec: str | None = None
    duration_seconds: float | None = None
    duration_is: Certainty | None = None
    sample_rate_hz: float | None = None
    channels: int | None = None
    bit_rate_mode: BitRateMode | None = None
    bit_rate_bps: float | None = None

    def length(self, units: float, units_a_second: float | None, known: Certainty) -> None:
        """Set the duration from a number of ticks or bytes, if the result makes sense."""
        if units_a_second is None or not units_a_second > 0 or not units >= 0:
            return
        seconds = units / units_a_second
        if math.isfinite(seconds):
            self.duration_seconds, self.duration_is = seconds, known

    def samples(self, count: int, known: Certainty) -> None:
        """Set the duration from a number of samples per channel, if the sample rate makes sense."""
        self.length(count, _whole(self.sample_rate_hz, MAX_SAMPLE_RATE_HZ), known)

    def mean_bit_rate(self) -> None:
        """Set the bit rate from the file's size and the duration, for a file that holds nothing but the stream."""
        if self.duration_seconds:
            self.bit_rate_bps = 8 * self.audio.size_bytes / self.duration_seconds

    def probe(self) -> Probe:
        """Return the facts, without those that make no sense."""
        bit_rate = _whole(self.bit_rate_bps, 1 << 40)
        return Probe(
            self.container,
            self.codec or None,
            self.duration_seconds,
            self.duration_is,
            _whole(self.sample_rate_hz, MAX_SAMPLE_RATE_HZ),
            _whole(self.channels, MAX_CHANNELS),
            self.bit_rate_mode,
            bit_rate,
            self.tags,
            self.audio,
        )


def _whole(value: float | None, highest: int) -> int | None:
    """Return the nearest whole number if it lies between 1 and `highest`, else None."""
    if value is None or not math.isfinite(value) or not 1 <= round(value) <= highest:
        return None
    return round(value)
