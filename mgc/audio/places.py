"""Which frame of an MP3 lies at which byte.

At a constant rate the frame size tells. At a varying rate the table of a Xing or VBRI frame tells, or else an estimate
from frame sizes sampled across the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from mgc.audio.mpeg import frames, synchronize
from mgc.audio.probe.mpeg import MpegStream
from mgc.audio.source import ByteRange, Remembering

TABLE_TOLERANCE: Final = 0.01
ESTIMATE_TOLERANCE: Final = 0.1
"""Largest error of a place, as a share of the track's length, by table and by estimate. A table has a hundred steps,
each rounded to a 256th of the file."""

_SAMPLES: Final = 24
"""Number of places at which frame sizes are sampled."""

_SAMPLE_BYTES: Final = 1 << 12
"""Bytes read at each of these places."""


def sample_frame_sizes(source: Remembering, stream: MpegStream) -> list[tuple[float, float]]:
    """Return mean frame sizes at places spread over a stream of varying rate, as pairs (byte, size in bytes)."""
    first, stop = stream.first_byte, stream.audio.stop
    step = (stop - first) / _SAMPLES
    starts = [first + int(step * (index + 0.5)) for index in range(_SAMPLES)]
    ranges = [ByteRange(start, min(stop, start + _SAMPLE_BYTES)) for start in starts]
    found = []
    for (start, _), data in zip(ranges, source.read(ranges), strict=True):
        begin = synchronize(data, 0, stream.header)
        if begin is not None:
            sizes = [header.size_bytes for _, header in frames(data, begin, stream.header)]
            found.append((float(start + begin), sum(sizes) / len(sizes)))
    return found


@dataclass(frozen=True)
class Places:
    """Straight lines between known points; frame numbers and bytes both rise.

    Attributes:
        stream: stream that the places are of.
        frame_numbers: numbers of the known frames.
        bytes_at: byte at which each of them begins.
        tolerance: largest error of a place, as a share of the track's length.
    """

    stream: MpegStream
    frame_numbers: tuple[float, ...]
    bytes_at: tuple[float, ...]
    tolerance: float

    @classmethod
    def find(cls, stream: MpegStream) -> Self:
        """Return the places by constant rate, by table, or by the mean size of the first frames."""
        first, stop, table = stream.first_byte, stream.audio.stop, stream.table
        if stream.believable and table is not None and table.frames is not None:
            begin, size = stream.audio.start, table.stream_bytes or stream.audio.size_bytes
            if stream.constant:
                mean = stream.mean_frame_bytes
                return cls(stream, (0.0, float(stream.frame_count)), (first, first + stream.frame_count * mean), 0.0)
            points = table.points or ((0.0, 0.0), (1.0, 1.0))
            known = [(time * table.frames, begin + share * size) for time, share in points]
            inside = [(number, place) for number, place in known if first < place < stop]
            last = (float(np.interp(stop, [place for _, place in known], [number for number, _ in known])), float(stop))
            numbers, places = zip((0.0, float(first)), *inside, last, strict=True)
            return cls(stream, numbers, places, TABLE_TOLERANCE)
        return cls(
            stream,
            (0.0, float(stream.frame_count)),
            (float(first), float(stop)),
            0.0 if stream.constant else ESTIMATE_TOLERANCE,
        )

    @property
    def duration_seconds(self) -> float:
        """Length of the track, according to these places."""
        if self.tolerance == 0:
            return self.stream.duration_seconds
        header = self.stream.header
        return max(0.0, self.frame_numbers[-1] * header.samples - self.stream.skipped_samples) / header.sample_rate_hz

    def byte(self, frame_number: float) -> float:
        """Return the byte at which a frame begins."""
        return float(np.interp(frame_number, self.frame_numbers, self.bytes_at))

    def number(self, place: int) -> int:
        """Return the number of the frame that begins at a byte."""
        return round(float(np.interp(place, self.bytes_at, self.frame_numbers)))

    def corrected(self, sizes: Sequence[tuple[float, float]]) -> Places:
        """Return places that follow sampled frame sizes, interpolated linearly between the samples.

        Args:
            sizes: pairs (byte, mean frame size in bytes).
        """
        begin, end = self.bytes_at[0], self.bytes_at[-1]
        known = [(begin, self.stream.head_frame_bytes), *sorted(sizes)]
        grid = np.linspace(begin, end, 1001)
        curve = np.interp(grid, [place for place, _ in known], [size for _, size in known])
        numbers = np.concatenate([[0.0], np.cumsum((grid[1] - grid[0]) / ((curve[1:] + curve[:-1]) / 2))])
        return Places(self.stream, tuple(numbers.tolist()), tuple(grid.tolist()), ESTIMATE_TOLERANCE)
