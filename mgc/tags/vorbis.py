"""Vorbis comments, in FLAC and in Ogg (Vorbis, Opus, Speex, FLAC). Pictures among them are skipped."""

from __future__ import annotations

from typing import Final

from mgc.audio.source import ByteRange, Joined, Source
from mgc.tags.reader import MOST_VALUE_BYTES, Fields, at, field_of, number_at

_MOST_KEY_BYTES: Final = 64
"""Most bytes of a key to look at; a longer one is not wanted."""

_COMMENTS: Final = 4
"""FLAC's type of a block with comments."""

_MOST_PAGES: Final = 64
"""Most pages of an Ogg file whose headers are read."""

_CODECS: Final = {
    b"\x01vorbis": len(b"\x03vorbis"),
    b"OpusHead": len(b"OpusTags"),
    b"Speex   ": 0,
    b"\x7fFLAC": 4,
}
"""How the first packet of an audio stream begins, and how many bytes come before the comments in the second."""


def read_flac(source: Source, start: int, fields: Fields) -> None:
    """Read the comments of a FLAC stream that begins at `start`."""
    start += len(b"fLaC")
    last = False
    while not last and start + 4 <= source.size_bytes:
        head = at(source, start, 4)
        last, size = bool(head[0] & 0x80), int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == _COMMENTS:
            _read_comments(_within(source, [ByteRange(start + 4, start + 4 + size)]), 0, fields)
        start += 4 + size


def read_ogg(source: Source, start: int, fields: Fields) -> None:
    """Read the comments of the first audio stream of an Ogg file that begins at `start`."""
    serial, skipped = b"", 0
    packet: list[ByteRange] = []
    for _ in range(_MOST_PAGES):
        head = at(source, start, 27 + 255)
        if len(head) < 27 or not head.startswith(b"OggS"):
            break
        lacing = head[27 : 27 + head[26]]
        content = start + 27 + len(lacing)
        start = content + sum(lacing)
        if not serial:
            begin = at(source, content, 8)
            found = [size for sign, size in _CODECS.items() if begin.startswith(sign)]
            if found:
                serial, skipped = head[14:18], found[0]
        elif head[14:18] == serial:
            # The second packet ends with the first segment that is not full.
            place = next((number for number, size in enumerate(lacing) if size < 255), None)
            size = sum(lacing) if place is None else sum(lacing[: place + 1])
            packet.append(ByteRange(content, content + size))
            if place is not None:
                break
    if packet:
        _read_comments(_within(source, packet), skipped, fields)


def _read_comments(source: Source, start: int, fields: Fields) -> None:
    """Read comments one by one, and of each no more than its key unless it is wanted."""
    start += 4 + number_at(source, start, 4)
    count = number_at(source, start, 4)
    start += 4
    for _ in range(count):
        if start + 4 > source.size_bytes:
            return
        size = number_at(source, start, 4)
        key, equals, _ = at(source, start + 4, min(size, _MOST_KEY_BYTES)).partition(b"=")
        field = field_of(key.decode("ascii", "replace")) if equals else None
        if field is not None:
            text = at(source, start + 5 + len(key), min(size - len(key) - 1, MOST_VALUE_BYTES))
            fields.put(field, [text.decode("utf-8", "replace")])
        start += 4 + size


def _within(source: Source, ranges: list[ByteRange]) -> Source:
    """Return some ranges of a source, cut at its end, as one source."""
    size_bytes = source.size_bytes
    cut = [ByteRange(min(start, size_bytes), min(stop, size_bytes)) for start, stop in ranges]
    return Joined(*((source, piece) for piece in cut))
