"""Tags before and after the audio of bare streams: ID3v2, APEv2, Lyrics3, ID3v1."""

from __future__ import annotations

import struct
from typing import Final

from mgc.audio.probe.reader import BoundedReader
from mgc.audio.source import ByteRange

MAX_TAGS: Final = 8
"""Most tags that are looked for at each end."""

ID3V2_HEAD_BYTES: Final = 10
"""Length of a leading tag's header. Frames of audio are looked for behind it if the tag lies about its length."""

_ID3V1_BYTES: Final = 128
_ENHANCED_BYTES: Final = 227
_APE_BYTES: Final = 32
_APE_HAS_HEADER, _APE_IS_HEADER = 1 << 31, 1 << 29
_LYRICS_BEGIN: Final = b"LYRICSBEGIN"
_LYRICS1_BYTES: Final = 5100 + 20
"""Longest Lyrics3 v1 tag in bytes."""


def strip_tags(reader: BoundedReader) -> tuple[ByteRange, tuple[str, ...]]:
    """Return the byte range of the audio between the tags, and the names of the tags in order of place.

    If a tag claims to be longer than the file, only its header (or footer) is skipped.

    Returns:
        The range, possibly empty, and names among `ID3v2`, `APEv2` (also version 1), `Lyrics3`, `ID3v1`.
    """
    start, stop = 0, reader.size_bytes
    before: list[str] = []
    behind: list[str] = []
    for _ in range(MAX_TAGS):
        name, size = _leading(reader.upto(start, _APE_BYTES), stop - start)
        if name is None:
            break
        before.append(name)
        start += size
    for _ in range(MAX_TAGS):
        name, size = _trailing(reader, start, stop)
        if name is None:
            break
        behind.insert(0, name)
        stop -= size
    return ByteRange(start, stop), (*before, *behind)


def _leading(head: bytes, room: int) -> tuple[str | None, int]:
    """Return the name and the size of the tag that begins with these bytes."""
    size = _id3v2_bytes(head, b"ID3")
    if size is not None:
        return "ID3v2", size if size <= room else ID3V2_HEAD_BYTES
    if head.startswith(b"APETAGEX") and len(head) == _APE_BYTES:
        _, size, _, flags = struct.unpack_from("<IIII", head, 8)
        if flags & _APE_IS_HEADER:
            return "APEv2", _APE_BYTES + (size if size + _APE_BYTES <= room else 0)
    return None, 0


def _id3v2_bytes(head: bytes, magic: bytes) -> int | None:
    """Return the size of an ID3v2 tag with header and footer; the size field is four bytes of seven bits."""
    if len(head) < 10 or not head.startswith(magic) or 0xFF in head[3:5] or max(head[6:10]) > 127:
        return None
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    # Only version 4 has a footer; in older versions the bit is undefined.
    return 10 + size + 10 * bool(magic == b"3DI" or (head[5] & 0x10 and head[3] >= 4))


def _trailing(reader: BoundedReader, start: int, stop: int) -> tuple[str | None, int]:
    """Return the name and the size of the tag that ends at `stop`."""
    room = stop - start
    count = min(room, _ID3V1_BYTES + _ENHANCED_BYTES)
    data = reader.upto(stop - count, count, ahead=0)
    if len(data) < count:
        return None, 0
    # The signature APETAGEX contains the letters TAG too.
    if data[-128:-125] == b"TAG" and data[-131:-123] != b"APETAGEX":
        enhanced = len(data) == _ID3V1_BYTES + _ENHANCED_BYTES and data.startswith(b"TAG+")
        return "ID3v1", _ID3V1_BYTES + enhanced * _ENHANCED_BYTES
    if data[-_APE_BYTES:-24] == b"APETAGEX":
        _, size, _, flags = struct.unpack_from("<IIII", data, len(data) - 24)
        whole = size + _APE_BYTES * bool(flags & _APE_HAS_HEADER)
        return "APEv2", whole if size >= _APE_BYTES and whole <= room else _APE_BYTES
    if data.endswith(b"LYRICS200") and data[-15:-9].isdigit():
        size = int(data[-15:-9]) + 15
        if size <= room and reader.upto(stop - size, len(_LYRICS_BEGIN), ahead=0) == _LYRICS_BEGIN:
            return "Lyrics3", size
        return "Lyrics3", 15
    if data.endswith(b"LYRICSEND"):
        count = min(room, _LYRICS1_BYTES)
        begin = reader.upto(stop - count, count, ahead=0).rfind(_LYRICS_BEGIN)
        return "Lyrics3", count - begin if begin >= 0 else 9
    size = _id3v2_bytes(data[-10:], b"3DI")
    if size is not None:
        return "ID3v2", size if size <= room else ID3V2_HEAD_BYTES
    return None, 0
