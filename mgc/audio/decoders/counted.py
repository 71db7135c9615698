"""MPEG audio whose frames have all been found: its length and the places of its windows are exact.

Frames are found by walking from header to header. What lies between them is skipped: tags, zeros, rubbish, a header
that was damaged. A file may hold several runs of frames, each of one rate and one number of channels: a jingle in front
of a song, or a recording of a radio station.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mgc.audio.cuts import LOOKED_AT_BYTES, Piece, join
from mgc.audio.decoders.libsndfile import CutsReader
from mgc.audio.decoders.stream import Fault, Stretch
from mgc.audio.excerpts import Excerpt
from mgc.audio.mpeg import LONGEST_FRAME, FrameHeader, parse_header, synchronize
from mgc.audio.probe.mpeg import DECODER_DELAY_SAMPLES, MpegStream
from mgc.audio.source import ByteRange, Scanner, Source

_EARLY_FRAMES: Final = 40
"""Frames before a window that are enough to fill the bit reservoir at the lowest bit rate."""

_IN_A_ROW: Final = 4
"""Frames that must follow one another behind something that is no frame."""


@dataclass
class Run:
    """Frames of one stream, with or without something between them.

    Attributes:
        header: header of the first frame.
        offsets: places of the frames in the file.
        headers: their headers.
    """

    header: FrameHeader
    offsets: array[int] = field(default_factory=lambda: array("q"))
    headers: list[FrameHeader] = field(default_factory=list)

    @property
    def stop(self) -> int:
        """End of the last frame."""
        return self.offsets[-1] + self.headers[-1].size_bytes


@dataclass
class Frames:
    """All frames of MPEG audio in a file.

    Attributes:
        runs: runs of frames, in order of place.
        gaps: byte ranges between the first and the last frame that hold no frame.
        cut_at: place of the last frame if the file ends within it, or None.
    """

    runs: list[Run] = field(default_factory=list)
    gaps: list[ByteRange] = field(default_factory=list)
    cut_at: int | None = None


def find_frames(source: Source, within: ByteRange, in_a_row: int = _IN_A_ROW) -> Frames:
    """Find all frames of MPEG audio.

    Args:
        source: file.
        within: byte range to search.
        in_a_row: number of consecutive frames that it takes to recognise the first.
    """
    found, scanner = Frames(), Scanner(source)
    run: Run | None = None
    place, behind = within.start, within.start
    sizes: dict[bytes, FrameHeader] = {}
    while place + 4 <= within.stop:
        data, at = scanner.ahead(place, (in_a_row + 1) * LONGEST_FRAME)
        base, last = place - at, min(len(data), within.stop - (place - at)) - 4
        start = at
        while run is not None and at <= last:
            word = data[at : at + 4]
            header = sizes.get(word)
            if header is None:
                header = parse_header(word)
                if header is None or header.stream != run.header.stream:
                    break
                sizes[word] = header
            if base + at + header.size_bytes > within.stop:
                found.cut_at = base + at
                return found
            run.offsets.append(base + at)
            run.headers.append(header)
            at += header.size_bytes
        if at > start:
            place = behind = base + at
            continue
        begin = synchronize(data[: last + 4] if last + 4 < len(data) else data, at, in_a_row=in_a_row)
        if begin is None:
            # A frame may begin shortly before the end of what was read.
            place = base + max(at + 1, len(data) - in_a_row * LONGEST_FRAME)
            if base + len(data) >= within.stop:
                break
            continue
        header = parse_header(data[begin : begin + 4])
        assert header is not None
        if found.runs and base + begin > behind:
            found.gaps.append(ByteRange(behind, base + begin))
        if run is None or header.stream != run.header.stream:
            run, sizes = Run(header), {}
            found.runs.append(run)
        place = base + begin
    return found


class CountedMp3(CutsReader):
    """A run of frames of layer III as a stream. See `mgc.audio.decoders.stream.Stream`.

    Only the frames of the windows are decoded, by libsndfile, as one small MP3; see `mgc.audio.cuts`.
    """

    tolerance_seconds = 0.0

    def __init__(self, source: Source, run: Run) -> None:
        """Take a run of the file. Reads its first frames again, for their table."""
        within = ByteRange(run.offsets[0], run.stop)
        (head,) = source.read([ByteRange(within.start, min(within.stop, within.start + LOOKED_AT_BYTES))])
        stream = MpegStream.find(head, within)
        if stream is None:
            # A single frame, or what the table's frame leaves.
            word = head[:4]
            stream = MpegStream(within, run.header, word, within.start, None, False, False, run.header.size_bytes)
        self._source, self._stream = source, stream
        first = next((index for index, offset in enumerate(run.offsets[:2]) if offset >= stream.first_byte), 0)
        self._offsets, self._headers = run.offsets[first:], run.headers[first:]
        self.sample_rate_hz: int = run.header.sample_rate_hz
        self.announced_seconds: float | None = None
        table, count = stream.table, len(self._offsets)
        padding = 0
        if table is not None and table.frames is not None:
            self.announced_seconds = table.frames * run.header.samples / self.sample_rate_hz
            if abs(count - table.frames) <= 1:
                padding = max(0, (table.padding_samples or 0) - DECODER_DELAY_SAMPLES)
        samples = count * run.header.samples - stream.skipped_samples - padding
        self.duration_seconds = max(0, samples) / self.sample_rate_hz
        self.fault: Fault | None = None

    def read(self, excerpts: Sequence[Excerpt]) -> Iterator[Stretch]:
        """Decode the stretches in order. After an incomplete one, the rest are empty."""
        pieces = [piece for piece in map(self._piece, excerpts) if piece is not None]
        cuts = join(self._stream, pieces, 0.0) if pieces else None
        return self.read_cuts(cuts, len(excerpts))

    def _piece(self, excerpt: Excerpt) -> Piece | None:
        """Return the frames of a window, and those before it that it needs."""
        header, skipped = self._stream.header, self._stream.skipped_samples
        begin = round(excerpt.start_seconds * self.sample_rate_hz) + skipped
        samples = round(excerpt.seconds * self.sample_rate_hz)
        first = max(0, begin // header.samples - _EARLY_FRAMES)
        last = min(len(self._offsets), math.ceil((begin + samples) / header.samples) + 1)
        if first >= last or samples <= 0:
            return None
        samples = min(samples, len(self._offsets) * header.samples - begin)
        base = self._offsets[first]
        within = ByteRange(base, self._offsets[last - 1] + self._headers[last - 1].size_bytes)
        (data,) = self._source.read([within])
        found = tuple(
            (offset - base, header)
            for offset, header in zip(self._offsets[first:last], self._headers[first:last], strict=True)
        )
        return Piece(excerpt, begin, samples, within, data, found, first, at_start=first == 0)
