"""Cut stretches out of an MP3 without reading or decoding the rest.

`mgc.audio.places` tells which bytes hold which seconds. Each stretch is cut at frame borders and begins a few frames
early, because a frame of layer III may need up to 511 bytes of earlier frames (the bit reservoir), and the two frames
before it sound on into it (the overlap of the transform and the memory of the synthesis filter). The stretches become
one small MP3 behind a frame that states how many frames follow. It is decoded in one go, and the early frames of each
stretch are dropped. The remaining samples equal those of a full decode to 2e-6 of full scale; the difference comes from
the order in which the filter sums its window, which depends on where decoding began.

Only layer III is cut: in other formats bytes do not follow from seconds so simply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mgc.audio.decoders.stream import SLACK_SECONDS
from mgc.audio.excerpts import Excerpt
from mgc.audio.mpeg import RESERVOIR, FrameHeader, frames, parse_header, synchronize
from mgc.audio.places import Places, sample_frame_sizes
from mgc.audio.probe.mpeg import DECODER_DELAY_SAMPLES, MpegStream
from mgc.audio.source import ByteRange, Remembering, Source

WHOLE_SHARE: Final = 0.6
"""A file is read whole if the windows need more than this share of it."""

LOOKED_AT_BYTES: Final = 1 << 14
"""Bytes from the first frame on that are read to find out what the stream is."""

_HIGHEST_BPS: Final = {1: 320_000, 2: 160_000}
"""Highest bit rate of layer III: MPEG-1, and the lower sample rates."""

_LONG_FRAME: Final = 1_441
"""Length of the longest frame of layer III in bytes: 320 kbit/s at 32 kHz."""

_PADDING_BYTES: Final = 2
"""At a constant rate a frame begins within this many bytes of where the mean frame size puts it."""

_OVERLAP_FRAMES: Final = 2
"""Earlier frames that sound on into a frame: the transform overlaps, and the synthesis filter has a memory."""

TABLE_DOUBT: Final = 1.35
"""If the frames in the windows are longer or shorter than the table says by more than this factor, it is not believed.
Windows of a song with a quiet half differ by less."""

_EXTENSIONS: Final = 3
"""How many times a range that turns out too short is extended."""


@dataclass(frozen=True)
class CutWindow:
    """The place of a window in the decoded cuts and in the track.

    Attributes:
        first_sample: first sample in the decoded cuts, counted as libmpg123 counts.
        samples: number of samples.
        start_seconds: start of the window in the track.
    """

    first_sample: int
    samples: int
    start_seconds: float


@dataclass(frozen=True, eq=False)
class Cuts:
    """Stretches of an MP3, as a small MP3 of their own.

    Attributes:
        data: file to decode.
        windows: parts of it to keep, in order.
        sample_rate_hz: sample rate of the stream.
        duration_seconds: length of the whole track, as far as its headers tell.
        tolerance_seconds: largest distance between a window and its stated place; 0 at a constant rate.
        damage: fault of the file in a few words, or None.
        read_bytes: bytes read from the file, including those read to probe it.
        source: the file, to cut other stretches out of it; None if it cannot be read again.
        audio: byte range of the audio in it.
    """

    data: bytes
    windows: tuple[CutWindow, ...]
    sample_rate_hz: int
    duration_seconds: float
    tolerance_seconds: float
    damage: str | None
    read_bytes: int
    source: Source | None = None
    audio: ByteRange | None = None


def cut(source: Remembering, audio: ByteRange, place: Callable[[float], Sequence[Excerpt]]) -> Cuts | None:
    """Read and cut windows; None if the file should be read whole.

    A file should be read whole if the windows need most of it, if it is of another layer or has no steady run of
    frames, if its frames end or change where a window should be, or if what its header says of its length does not fit
    its bytes.

    Args:
        source: file.
        audio: byte range of the audio, between the tags; see `mgc.audio.probe`.
        place: places the windows, given the length of the track in seconds.
    """
    head, tail = source.read(
        [
            ByteRange(audio.start, min(audio.stop, audio.start + LOOKED_AT_BYTES)),
            ByteRange(max(audio.start, audio.stop - LOOKED_AT_BYTES), audio.stop),
        ]
    )
    stream = MpegStream.find(head, audio)
    if stream is None or stream.header.layer != 3 or not _ends_well(tail, stream) or stream.contradicts_itself:
        return None
    places = Places.find(stream)
    guessed = not stream.constant and not stream.believable
    sizes = sample_frame_sizes(source, stream) if guessed else []
    if guessed:
        places = places.corrected(sizes)
    pieces = _read_pieces(source, stream, places, place(places.duration_seconds))
    if not pieces:
        return None
    if guessed:
        # The frames in the windows give more sizes, so the places become more exact.
        places = places.corrected([*sizes, *((piece.middle_byte, piece.mean_frame_bytes) for piece in pieces)])
    elif not stream.constant and (stream.is_truncated or not _fits_table(pieces, stream)):
        # What is left of a truncated file may have larger frames than the rest.
        return None
    for piece in pieces:
        begins = piece.within.start + piece.found[0][0]
        piece.at_start = piece.within.start == stream.first_byte
        piece.first_number = 0 if piece.at_start else places.number(begins)
        if places.tolerance == 0 and abs(places.byte(piece.first_number) - begins) > _PADDING_BYTES:
            # There is something between the frames, or the rate varies after all.
            return None
    damage = None
    if stream.is_truncated:
        lengths = f"header announces {stream.announced_seconds or 0.0:.1f} s, {places.duration_seconds:.1f} s are there"
        damage = f"truncated: {lengths}"
    cuts = join(stream, pieces, places.tolerance)
    if cuts is None:
        return None
    duration_seconds = places.duration_seconds
    return replace(
        cuts,
        duration_seconds=duration_seconds,
        tolerance_seconds=places.tolerance * duration_seconds,
        damage=damage,
        read_bytes=source.read_bytes,
    )


def _ends_well(tail: bytes, stream: MpegStream) -> bool:
    """Return whether frames of the stream follow one another to the end of the file."""
    start = synchronize(tail, 0, stream.header)
    if start is None:
        return False
    end = start
    for offset, header in frames(tail, start, stream.header):
        end = offset + header.size_bytes
    return end > len(tail) - 4


def _fits_table(pieces: Sequence[Piece], stream: MpegStream) -> bool:
    """Return whether frames are about as long as the table says. One that counts wrongly by a third is found out."""
    table = stream.table
    if table is None or table.frames is None:
        return True
    stated = (table.stream_bytes or stream.audio.size_bytes) / table.frames
    found = sum(piece.mean_frame_bytes for piece in pieces) / len(pieces)
    return stated / TABLE_DOUBT < found < stated * TABLE_DOUBT


@dataclass
class Piece:
    """A stretch of the file around a window.

    Attributes:
        excerpt: the window.
        first_sample: first sample of the window, counted from the first frame of music.
        samples: length of the window.
        within: byte range of the stretch.
        data: its bytes.
        found: its frames, as offsets in the bytes and headers.
        first_number: number of the first of these frames.
        at_start: whether the stream begins with them.
    """

    excerpt: Excerpt
    first_sample: int
    samples: int
    within: ByteRange
    data: bytes = b""
    found: tuple[tuple[int, FrameHeader], ...] = ()
    first_number: int = 0
    at_start: bool = False

    @property
    def middle_byte(self) -> float:
        """Middle of the byte range."""
        return (self.within.start + self.within.stop) / 2

    @property
    def mean_frame_bytes(self) -> float:
        """Mean length of the frames."""
        return sum(header.size_bytes for _, header in self.found) / len(self.found)

    def frames_between(self, first: int, last: int) -> bytes:
        """Return the bytes of some frames, without what stands between them."""
        frames = self.found[first:last]
        start, stop = frames[0][0], frames[-1][0] + frames[-1][1].size_bytes
        if sum(header.size_bytes for _, header in frames) == stop - start:
            return self.data[start:stop]
        return b"".join(self.data[offset : offset + header.size_bytes] for offset, header in frames)


def _read_pieces(
    source: Remembering, stream: MpegStream, places: Places, excerpts: Sequence[Excerpt]
) -> list[Piece] | None:
    """Read the stretch of each window and find its frames; None if the file should be read whole."""
    header = stream.header
    before = RESERVOIR[header.version] + (_OVERLAP_FRAMES + 2) * _frame_bytes(stream)
    pieces = []
    for excerpt in excerpts:
        first_sample = round(excerpt.start_seconds * header.sample_rate_hz) + stream.skipped_samples
        samples = round(excerpt.seconds * header.sample_rate_hz)
        start = places.byte(first_sample // header.samples) - before
        stop = places.byte(math.ceil((first_sample + samples) / header.samples)) + 2 * _frame_bytes(stream)
        within = ByteRange(max(stream.first_byte, int(start)), min(stream.audio.stop, math.ceil(stop)))
        pieces.append(Piece(excerpt, first_sample, samples, within))
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
    """Return the length in bytes of the longest frame to expect."""
    header = stream.header
    if stream.constant:
        return header.size_bytes + 1
    return header.samples * _HIGHEST_BPS[header.version] // (8 * header.sample_rate_hz) + 1


def _find_frames(piece: Piece, stream: MpegStream) -> int | None:
    """Find the frames of a stretch, and return how many are missing; None if the frames do not follow one another."""
    at_start = piece.within.start == stream.first_byte
    start = 0 if at_start else synchronize(piece.data, 0, stream.header, in_a_row=4)
    if start is None:
        return None
    found = list(frames(piece.data, start, stream.header))
    end = found[-1][0] + found[-1][1].size_bytes if found else 0
    # Nothing but the end of the data may follow the last frame.
    if not found or (end + 4 <= len(piece.data) and piece.within.start + end + _LONG_FRAME < stream.audio.stop):
        return None
    if end > len(piece.data):
        found.pop()
    if not found:
        return None
    piece.found = tuple(found)
    needed = _early_frames(piece) + math.ceil(piece.samples / stream.header.samples) + 2
    return max(0, needed - len(found))


def _early_frames(piece: Piece) -> int:
    """Return how many frames at the start of a stretch only serve the later ones, by bit reservoir or by overlap."""
    header = piece.found[0][1]
    held = 0
    for count, (_, frame) in enumerate(piece.found):
        if held >= RESERVOIR[header.version]:
            return count + _OVERLAP_FRAMES
        held += frame.size_bytes - frame.side_bytes
    return len(piece.found)


def join(stream: MpegStream, pieces: Sequence[Piece], tolerance: float) -> Cuts | None:
    """Join stretches into one MP3; None if a window lacks frames.

    Args:
        stream: stream that the pieces are of.
        pieces: stretches with their frames.
        tolerance: largest error of the places, as a share of the track's length; 0 if they are exact.

    Returns:
        Cuts without length and damage, which the caller knows.
    """
    header = stream.header
    parts: list[bytes] = [_make_silence(stream)]
    count = 1
    windows = []
    for piece in pieces:
        # A window can begin in any frame at the start of the stream, elsewhere only after the early frames.
        earliest = 0 if piece.at_start else _early_frames(piece)
        wanted = piece.first_sample // header.samples - piece.first_number
        # If the places are estimates, a complete window matters more than its exact place.
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
        parts.append(piece.frames_between(first, last))
        begin = (count + index - first) * header.samples + offset - DECODER_DELAY_SAMPLES
        track_sample = (piece.first_number + index) * header.samples + offset - stream.skipped_samples
        windows.append(CutWindow(begin, samples, max(0, track_sample) / header.sample_rate_hz))
        count += last - first
    parts.append(_make_silence(stream))
    data = b"".join([_make_info_frame(stream, count + 1), *parts])
    return Cuts(data, tuple(windows), header.sample_rate_hz, 0.0, 0.0, None, 0)


def _needed_early(piece: Piece, index: int) -> int:
    """Return how many frames before the first one of a window must be decoded with it."""
    reservoir = RESERVOIR[piece.found[0][1].version]
    held = 0
    for count in range(_OVERLAP_FRAMES, index):
        if held >= reservoir:
            return count
        frame = piece.found[index - count - 1][1]
        held += frame.size_bytes - frame.side_bytes
    return index


_SPACIOUS_RATE: Final = 0x90
"""Header index of 128 kbit/s (MPEG-1) or 80 (lower rates): such a frame has room for a table."""


def _make_silence(stream: MpegStream) -> bytes:
    """Return a silent frame of the stream's kind: side information of zeros, without a checksum."""
    word = bytes([stream.word[0], stream.word[1] | 1, _SPACIOUS_RATE | stream.word[2] & 0x0C, stream.word[3]])
    header = parse_header(word)
    assert header is not None
    return word + bytes(header.size_bytes - 4)


def _make_info_frame(stream: MpegStream, count: int) -> bytes:
    """Return an Info frame that states how many frames follow, and no delays."""
    frame = bytearray(_make_silence(stream))
    header = parse_header(bytes(frame[:4]))
    assert header is not None
    place = header.side_bytes
    frame[place : place + 12] = b"Info" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return bytes(frame)
