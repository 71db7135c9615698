"""Listen to stretches of an MP3 without reading, or decoding, the rest.

Seconds become bytes by the frame size where the rate is constant, by the table of a Xing or VBRI frame where it varies,
and else by an estimate from frames at places spread over the file. Each stretch is cut at frame borders, a few frames
early: a frame of layer III may need up to 511 bytes of earlier frames (the bit reservoir) and sounds on into the next
two (the overlap of the transform, the memory of the synthesis filter). Behind a frame that says how many follow, the
stretches make up one small MP3, which is decoded in one go; of each, the early frames are dropped. What is left are the
samples of a full decode, to 2e-6 of full scale: the filter adds up its window in an order that depends on where it
began.

Only layer III is cut; no other container's bytes can be told from its seconds so simply.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from mgc.audio.attempt import SLACK_SECONDS
from mgc.audio.excerpts import Excerpt, ListeningPlan
from mgc.audio.mpeg import RESERVOIR, FrameHeader, frames, parse_header, synchronize
from mgc.audio.probe.mpeg import DECODER_DELAY_SAMPLES, MpegStream
from mgc.audio.source import ByteRange, Held, Remembering

WHOLE_SHARE: Final = 0.6
"""A file of which more than this is wanted is read whole."""

LOOKED_AT_BYTES: Final = 1 << 14
"""Bytes from the first frame on that tell what the stream is."""

_HIGHEST_BPS: Final = {1: 320_000, 2: 160_000}
"""Of layer III, by MPEG-1 and the lower rates."""

_LONG_FRAME: Final = 1_441
"""Bytes of the longest frame of layer III: 320 kbit/s at 32 kHz."""

_PADDING_BYTES: Final = 2
"""Frames of a constant rate begin within so many bytes of where their mean size puts them."""

_OVERLAP_FRAMES: Final = 2
"""Frames that sound on into a frame: by the transform's overlap, and by the synthesis filter's memory."""

_SAMPLES: Final = 24
_SAMPLE_BYTES: Final = 1 << 12
"""How many places of a stream of varying rate without a table are looked at, and how long a look is."""

_EXTENSIONS: Final = 3
"""How often a range that turned out too short is extended."""

TABLE_TOLERANCE: Final = 0.01
ESTIMATE_TOLERANCE: Final = 0.1
"""Shares of the track's length by which a window may lie elsewhere than it says, by table and by estimate. A table has
a hundred steps, each rounded to a 256th of the file."""


@dataclass(frozen=True)
class CutWindow:
    """Where in the decoded cuts a window lies, and where in the track.

    Attributes:
        first_sample: where it begins, counted as libmpg123 gives the samples.
        samples: how many there are.
        start_seconds: its place in the track.
    """

    first_sample: int
    samples: int
    start_seconds: float


@dataclass(frozen=True, eq=False)
class Cuts:
    """Stretches of an MP3 as a small MP3 of their own.

    Attributes:
        data: the file to decode.
        windows: what to keep of it, in order.
        sample_rate_hz: of the samples.
        duration_seconds: length of the whole track, as far as its headers tell.
        tolerance_seconds: how far windows may lie from the places they state: 0 for a constant rate.
        damage: what is wrong with the file, in a few words, or None.
        read_bytes: bytes read of the file, probing included.
    """

    data: bytes
    windows: tuple[CutWindow, ...]
    sample_rate_hz: int
    duration_seconds: float
    tolerance_seconds: float
    damage: str | None
    read_bytes: int


def cut(source: Remembering, audio: ByteRange, plan: ListeningPlan, track_id: str = "") -> Cuts | None:
    """Read and cut what a plan asks for, or None where the file should be read whole.

    That is so for one of which most is wanted, one of another layer or without a steady run of frames, and one whose
    frames end or change where a window should be.

    Args:
        source: the file.
        audio: where between the tags its audio lies, see `mgc.audio.probe`.
        plan: which seconds to hear.
        track_id: for a plan with random places.
    """
    (head,) = source.read([ByteRange(audio.start, min(audio.stop, audio.start + LOOKED_AT_BYTES))])
    stream = MpegStream.find(head, audio)
    if stream is None or stream.header.layer != 3:
        return None
    places = _Places.of(stream)
    guessed = not stream.constant and not stream.believable
    sizes = _sampled_sizes(source, stream) if guessed else []
    if guessed:
        places = places.corrected(sizes)
    pieces = _pieces(source, stream, places, plan.excerpts(places.duration_seconds, track_id))
    if pieces is None:
        return None
    if guessed:
        # What was found in the windows makes their places surer still.
        places = places.corrected([*sizes, *((piece.middle_byte, piece.mean_frame_bytes) for piece in pieces)])
    return _joined(source, stream, places, pieces)


def _sampled_sizes(source: Remembering, stream: MpegStream) -> list[tuple[float, float]]:
    """Mean frame sizes at places spread over a stream of varying rate: (byte, size)."""
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


def counted(data: bytes, audio: ByteRange, plan: ListeningPlan, track_id: str = "") -> Cuts | None:
    """Cuts of a file in memory by its frames, all of them walked; None where they do not follow one another to the end.

    For a variable rate without a table this is the only way to know a time exactly, or the length.

    Args:
        data: the whole file.
        audio: where between the tags its audio lies.
        plan: which seconds to hear.
        track_id: for a plan with random places.
    """
    stream = MpegStream.find(data[audio.start : audio.start + LOOKED_AT_BYTES], audio)
    if stream is None or stream.header.layer != 3:
        return None
    music = data[stream.first_byte : audio.stop]
    found = tuple(frames(music, 0, stream.header))
    if not found or found[-1][0] + found[-1][1].size_bytes < len(music) - _LONG_FRAME:
        return None
    if found[-1][0] + found[-1][1].size_bytes > len(music):
        found = found[:-1]
    places = _Places(stream, (0.0, float(len(found))), (float(stream.first_byte), float(audio.stop)), 0.0)
    rate_hz, skipped = stream.header.sample_rate_hz, stream.skipped_samples
    duration_seconds = (len(found) * stream.header.samples - skipped) / rate_hz
    pieces = []
    for excerpt in plan.excerpts(duration_seconds, track_id):
        first_sample, samples = round(excerpt.start_seconds * rate_hz) + skipped, round(excerpt.seconds * rate_hz)
        within = ByteRange(stream.first_byte, audio.stop)
        pieces.append(_Piece(excerpt, first_sample, samples, within, music, found))
    cuts = _joined(Remembering(Held(data)), stream, places, pieces)
    return None if cuts is None else replace(cuts, duration_seconds=duration_seconds)


@dataclass(frozen=True)
class _Places:
    """Which frame lies at which byte: straight lines between known points, both rising."""

    stream: MpegStream
    frame_numbers: tuple[float, ...]
    bytes_at: tuple[float, ...]
    tolerance: float

    @classmethod
    def of(cls, stream: MpegStream) -> Self:
        """By rate, table, or the mean size of the first frames."""
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
        """Length of the track by these places."""
        if self.tolerance == 0:
            return self.stream.duration_seconds
        header = self.stream.header
        return max(0.0, self.frame_numbers[-1] * header.samples - self.stream.skipped_samples) / header.sample_rate_hz

    def byte(self, frame_number: float) -> float:
        """Where a frame begins."""
        return float(np.interp(frame_number, self.frame_numbers, self.bytes_at))

    def number(self, place: int) -> int:
        """The frame that begins at a byte."""
        return round(float(np.interp(place, self.bytes_at, self.frame_numbers)))

    def corrected(self, sizes: Sequence[tuple[float, float]]) -> _Places:
        """With mean frame sizes found at some bytes; between two of these places they change steadily."""
        begin, end = self.bytes_at[0], self.bytes_at[-1]
        known = [(begin, self.stream.head_frame_bytes), *sorted(sizes)]
        grid = np.linspace(begin, end, 1001)
        curve = np.interp(grid, [place for place, _ in known], [size for _, size in known])
        numbers = np.concatenate([[0.0], np.cumsum((grid[1] - grid[0]) / ((curve[1:] + curve[:-1]) / 2))])
        return _Places(self.stream, tuple(numbers.tolist()), tuple(grid.tolist()), ESTIMATE_TOLERANCE)


@dataclass
class _Piece:
    """A stretch of the file around a window."""

    excerpt: Excerpt
    first_sample: int
    samples: int
    within: ByteRange
    data: bytes = b""
    found: tuple[tuple[int, FrameHeader], ...] = ()

    @property
    def middle_byte(self) -> float:
        return (self.within.start + self.within.stop) / 2

    @property
    def mean_frame_bytes(self) -> float:
        return sum(header.size_bytes for _, header in self.found) / len(self.found)


def _pieces(
    source: Remembering, stream: MpegStream, places: _Places, excerpts: Sequence[Excerpt]
) -> list[_Piece] | None:
    """The stretches of the windows, each with its frames; None where the file should be read whole."""
    header = stream.header
    before = RESERVOIR[header.version] + (_OVERLAP_FRAMES + 2) * _frame_bytes(stream)
    pieces = []
    for excerpt in excerpts:
        first_sample = round(excerpt.start_seconds * header.sample_rate_hz) + stream.skipped_samples
        samples = round(excerpt.seconds * header.sample_rate_hz)
        start = places.byte(first_sample // header.samples) - before
        stop = places.byte(math.ceil((first_sample + samples) / header.samples)) + 2 * _frame_bytes(stream)
        within = ByteRange(max(stream.first_byte, int(start)), min(stream.audio.stop, math.ceil(stop)))
        pieces.append(_Piece(excerpt, first_sample, samples, within))
    if sum(piece.within.size_bytes for piece in pieces) > WHOLE_SHARE * source.size_bytes:
        return None
    for piece, data in zip(pieces, source.read([piece.within for piece in pieces]), strict=True):
        piece.data = data
    for _ in range(_EXTENSIONS + 1):
        short = []
        for piece in pieces:
            missing = _find_frames(piece, stream)
            if missing is None:
                return None
            if missing and piece.within.stop < stream.audio.stop:
                short.append((piece, math.ceil((missing + 1) * 1.2 * max(piece.mean_frame_bytes, header.size_bytes))))
        if not short:
            return pieces
        ends = [piece.within.stop for piece, _ in short]
        wanted = [
            ByteRange(end, min(stream.audio.stop, end + more)) for end, (_, more) in zip(ends, short, strict=True)
        ]
        for (piece, _), part, data in zip(short, wanted, source.read(wanted), strict=True):
            piece.within = piece.within._replace(stop=part.stop)
            piece.data += data
    return None


def _frame_bytes(stream: MpegStream) -> int:
    """The longest frame that is to be expected."""
    header = stream.header
    if stream.constant:
        return header.size_bytes + 1
    return header.samples * _HIGHEST_BPS[header.version] // (8 * header.sample_rate_hz) + 1


def _find_frames(piece: _Piece, stream: MpegStream) -> int | None:
    """Find the frames of a stretch; returns how many its window lacks, None where they do not hang together."""
    at_start = piece.within.start == stream.first_byte
    start = 0 if at_start else synchronize(piece.data, 0, stream.header, in_a_row=4)
    if start is None:
        return None
    found = list(frames(piece.data, start, stream.header))
    end = found[-1][0] + found[-1][1].size_bytes if found else 0
    # Behind the last frame there must be the end of the data, not something else.
    if not found or (end + 4 <= len(piece.data) and piece.within.start + end + _LONG_FRAME < stream.audio.stop):
        return None
    if end > len(piece.data):
        found.pop()
    if not found:
        return None
    piece.found = tuple(found)
    needed = _early_frames(piece) + math.ceil(piece.samples / stream.header.samples) + 2
    return max(0, needed - len(found))


def _early_frames(piece: _Piece) -> int:
    """How many of a stretch's first frames only help the next: the reservoir's, and those that sound on."""
    header = piece.found[0][1]
    held = 0
    for count, (_, frame) in enumerate(piece.found):
        if held >= RESERVOIR[header.version]:
            return count + _OVERLAP_FRAMES
        held += frame.size_bytes - frame.side_bytes
    return len(piece.found)


def _joined(source: Remembering, stream: MpegStream, places: _Places, pieces: Sequence[_Piece]) -> Cuts | None:
    """One MP3 of all stretches."""
    header = stream.header
    parts: list[bytes] = [_silence(stream)]
    count, tolerance = 1, places.tolerance
    windows = []
    for piece in pieces:
        at_start = piece.within.start == stream.first_byte
        first_number = 0 if at_start else places.number(piece.within.start + piece.found[0][0])
        place = piece.within.start + piece.found[0][0]
        if places.tolerance == 0 and abs(places.byte(first_number) - place) > _PADDING_BYTES:
            # Something stands between the frames, or the rate does vary: places are no more than estimates.
            tolerance = max(tolerance, ESTIMATE_TOLERANCE)
        # Frames that a window can begin in: all of them at the very beginning, else those that the early ones allow.
        earliest = 0 if at_start else _early_frames(piece)
        wanted = piece.first_sample // header.samples - first_number
        # Where places are estimates, a whole window is worth more than its exact place.
        latest = len(piece.found) - (math.ceil(piece.samples / header.samples) if tolerance else 1)
        index = max(earliest, min(wanted, latest))
        offset = piece.first_sample % header.samples if index == wanted else 0
        available = (len(piece.found) - index) * header.samples - offset
        samples = min(piece.samples, available)
        if samples < piece.samples - SLACK_SECONDS * header.sample_rate_hz and not stream.is_truncated:
            return None
        if samples <= 0:
            return None
        first = index - _needed_early(piece, index)
        last = min(len(piece.found), index + math.ceil((offset + samples) / header.samples))
        parts.append(piece.data[piece.found[first][0] : piece.found[last - 1][0] + piece.found[last - 1][1].size_bytes])
        begin = (count + index - first) * header.samples + offset - DECODER_DELAY_SAMPLES
        track_sample = (first_number + index) * header.samples + offset - stream.skipped_samples
        windows.append(CutWindow(begin, samples, max(0, track_sample) / header.sample_rate_hz))
        count += last - first
    parts.append(_silence(stream))
    data = b"".join([_counting_frame(stream, count + 1), *parts])
    duration_seconds = places.duration_seconds
    damage = None
    if stream.is_truncated:
        announced = stream.announced_seconds or 0.0
        damage = f"truncated: header announces {announced:.1f} s, {duration_seconds:.1f} s are there"
    return Cuts(
        data,
        tuple(windows),
        header.sample_rate_hz,
        duration_seconds,
        tolerance * duration_seconds,
        damage,
        source.read_bytes,
    )


def _needed_early(piece: _Piece, index: int) -> int:
    """How many frames before a window's first one must be decoded with it."""
    reservoir = RESERVOIR[piece.found[0][1].version]
    held = 0
    for count in range(_OVERLAP_FRAMES, index):
        if held >= reservoir:
            return count
        frame = piece.found[index - count - 1][1]
        held += frame.size_bytes - frame.side_bytes
    return index


_SPACIOUS_RATE: Final = 0x90
"""The header's index of 128 kbit/s (MPEG-1) or 80 (lower rates), at which a frame has room for a table."""


def _silence(stream: MpegStream) -> bytes:
    """A frame of the stream's kind without checksum and with side information of zeros: it sounds of nothing."""
    word = bytes([stream.word[0], stream.word[1] | 1, _SPACIOUS_RATE | stream.word[2] & 0x0C, stream.word[3]])
    header = parse_header(word)
    assert header is not None
    return word + bytes(header.size_bytes - 4)


def _counting_frame(stream: MpegStream, count: int) -> bytes:
    """An Info frame that says how many frames follow, and nothing of delays."""
    frame = bytearray(_silence(stream))
    header = parse_header(bytes(frame[:4]))
    assert header is not None
    place = header.side_bytes
    frame[place : place + 12] = b"Info" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return bytes(frame)
