"""Walk the chunks of WAV and AIFF files: where the sound ends by its chunk's size, and what follows it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from mgc.audio.source import ByteRange, Source

_UNKNOWN: Final = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFFFF - 36)
"""Sizes of a chunk whose end was not known when its head was written: a pipe, or more than the field can hold."""

_MOST_CHUNKS: Final = 512
_WRAPPED: Final = 1 << 32


@dataclass(frozen=True)
class Form:
    """One WAV or AIFF file within a file.

    Attributes:
        start: first byte.
        stop: end of its last chunk, or of the file.
        sound: byte range of the sound that is there.
        announced_bytes: size of the sound according to its chunk; None if the chunk does not know it.
        size_at: place of that size.
        order: byte order of sizes, `<` or `>`.
    """

    start: int
    stop: int
    sound: ByteRange
    announced_bytes: int | None
    size_at: int
    order: str

    @property
    def is_wrapped(self) -> bool:
        """Whether the sound is larger than its chunk's field can say, so that the field holds the rest only."""
        there = self.sound.size_bytes
        return self.announced_bytes is not None and there >= _WRAPPED and there % _WRAPPED == self.announced_bytes


def walk_form(source: Source, within: ByteRange) -> Form | None:
    """Find the sound of the WAV or AIFF file that begins in a byte range; None if it has none, or 64-bit sizes.

    Args:
        source: file.
        within: byte range from the first byte of the file on.
    """
    start, stop = within
    head = _read(source, start, 12)
    if head[:4] not in (b"RIFF", b"RIFX", b"FORM") or len(head) < 12:
        return None
    name, order = (b"SSND", ">") if head[:4] == b"FORM" else (b"data", ">" if head[:4] == b"RIFX" else "<")
    place = start + 12
    for _ in range(_MOST_CHUNKS):
        chunk = _read(source, place, 8)
        if len(chunk) < 8:
            return None
        found, (size,) = chunk[:4], struct.unpack_from(order + "I", chunk, 4)
        if found == name:
            break
        place += 8 + size + size % 2
    else:
        return None
    begin = place + 8
    unknown = size in _UNKNOWN
    end = stop if unknown else min(stop, begin + size)
    form = Form(start, stop, ByteRange(begin, end), None if unknown else size, place + 4, order)
    following = end + (end - begin) % 2
    # More sound than four bytes can count: what follows the rest of the size is sound, not a chunk.
    if not unknown and stop - begin >= _WRAPPED and not _is_chunk(_read(source, following, 8)):
        whole = Form(start, stop, ByteRange(begin, stop), size, place + 4, order)
        return whole if whole.is_wrapped else form
    for _ in range(_MOST_CHUNKS):
        chunk = _read(source, following, 12)
        if following >= stop or not _is_chunk(chunk) or _begins_form(chunk):
            break
        following += 8 + struct.unpack_from(order + "I", chunk, 4)[0]
        following += (following - begin) % 2
    return Form(start, min(stop, following), form.sound, form.announced_bytes, form.size_at, order)


def with_size(form: Form) -> tuple[ByteRange | bytes, ...]:
    """Return the pieces of a WAV file whose header states the size of its sound; as RF64 if it is 4 GiB or more.

    RF64 is EBU Tech 3306: sizes of 64 bits in a chunk of their own, and 0xFFFFFFFF where they would stand.
    """
    there = form.sound.size_bytes
    sound = ByteRange(form.size_at + 4, form.sound.stop)
    if there < _WRAPPED - 1:
        return ByteRange(form.start, form.size_at), struct.pack("<I", there), sound
    wide = struct.pack("<4sIQQQI", b"ds64", 28, form.sound.stop - form.start + 28, there, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + wide, ByteRange(form.start + 12, form.size_at), b"\xff" * 4, sound


def _begins_form(chunk: bytes) -> bool:
    return chunk[:4] in (b"RIFF", b"RIFX", b"FORM") and chunk[8:12] in (b"WAVE", b"AIFF", b"AIFC")


def begins_form(source: Source, place: int) -> bool:
    """Return whether another WAV or AIFF file begins at a byte."""
    return _begins_form(_read(source, place, 12))


def _is_chunk(chunk: bytes) -> bool:
    """Return whether eight bytes look like the head of a chunk: its name has four printable characters."""
    return len(chunk) >= 8 and all(32 <= byte < 127 for byte in chunk[:4])


def _read(source: Source, place: int, count: int) -> bytes:
    stop = min(source.size_bytes, place + count)
    return source.read([ByteRange(place, stop)])[0] if place < stop else b""
