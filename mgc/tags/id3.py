"""ID3: the frames with text are cut out of a tag, whatever its size, and mutagen reads them.

mutagen alone would read a tag as a whole, with all of its pictures.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from mutagen.id3 import ID3, ParseID3v1

from mgc.audio.source import Held, Source
from mgc.tags.reader import MOST_VALUE_BYTES, Fields, at, field_of

V1_BYTES: Final = 128
"""Length of the tag at the end of a file."""

_UNSYNCHRONISED: Final = 0x80
_EXTENDED: Final = 0x40

_NEWER: Final = dict(
    zip(
        ("TCO", "TP1", "TP2", "TAL", "TT2", "TYE", "UFI", "TXX"),
        ("TCON", "TPE1", "TPE2", "TALB", "TIT2", "TYER", "UFID", "TXXX"),
        strict=True,
    )
)
"""Frames of ID3v2.2, by their later names."""

_WANTED: Final = frozenset({*_NEWER, *_NEWER.values(), "TDRC"})

_FRAME_ID: Final = re.compile(rb"[A-Z][A-Z0-9]{2,3}")

_MOST_OF_OTHERS_BYTES: Final = 4096
"""Most bytes of a frame that may hold anything, such as a fingerprint (TXXX), or an id (UFID)."""

_MUSICBRAINZ: Final = "http://musicbrainz.org"


class _Frame(NamedTuple):
    """A frame within a tag. `start` is the place of its content, `size_bytes` the length as far as the tag goes."""

    name: str
    flags: bytes
    start: int
    size_bytes: int


def read_id3(source: Source, start: int, fields: Fields) -> int:
    """Read an ID3v2 tag.

    Args:
        source: the file.
        start: place of the tag.
        fields: receives what is found.

    Returns:
        The place behind the tag; the start if there is none.
    """
    head = at(source, start, 10)
    if len(head) < 10 or not head.startswith(b"ID3") or head[3] not in (2, 3, 4):
        return start
    version, flags = head[3], head[5]
    end = start + 10 + _size(head[6:10])
    body: Source = source
    first, last = start + 10, min(end, source.size_bytes)
    if flags & _UNSYNCHRONISED and version < 4:
        # The sizes of frames are those before zeros were put in, so no frame behind a picture can be found without it.
        body = Held(at(source, first, min(last - first, MOST_VALUE_BYTES)).replace(b"\xff\0", b"\xff"))
        first, last = 0, body.size_bytes
    if flags & _EXTENDED and version > 2:
        first += _extended_bytes(at(body, first, 4), version)
    texts = b"".join(_excerpt(body, frame, version) for frame in _frames(body, first, last, version))
    kept = flags & _UNSYNCHRONISED if version == 4 else 0
    size = len(texts) + 10
    data = b"ID3" + bytes((version, 0, kept)) + _syncsafe(size) + texts + bytes(10)
    _put(fields, ID3(io.BytesIO(data), load_v1=False, translate=False))
    return end


def read_id3v1(data: bytes, fields: Fields) -> None:
    """Read the last `V1_BYTES` of a file, if they are a tag. Its texts are cut at 30 bytes."""
    # The TAG of an APE tag's first word may lie just there. Then the file ends with that tag.
    if len(data) == V1_BYTES and data.startswith(b"TAG") and data[-32:-24] != b"APETAGEX":
        for frame in (ParseID3v1(data) or {}).values():
            fields.put(field_of(frame.FrameID), frame.text)


def _frames(source: Source, start: int, end: int, version: int) -> Iterator[_Frame]:
    """Yield the wanted frames of a tag, without reading the others."""
    name_bytes, size_bytes, head_bytes = (3, 3, 6) if version == 2 else (4, 4, 10)
    while start + head_bytes <= end:
        head = at(source, start, head_bytes)
        name = head[:name_bytes].rstrip(b"\0")
        if len(head) < head_bytes or not _FRAME_ID.fullmatch(name):
            return
        field = head[name_bytes : name_bytes + size_bytes]
        size = int.from_bytes(field, "big")
        if version == 4 and _size(field) != size:
            # Some programs write plain numbers here. What follows a frame tells.
            safe, behind = _size(field), start + head_bytes
            if _begins_frame(source, behind + safe, end) or not _begins_frame(source, behind + size, end):
                size = safe
        start += head_bytes
        text = name.decode()
        if text in _WANTED and size:
            yield _Frame(text, head[8:10], start, min(size, end - start))
        start += size


def _begins_frame(source: Source, place: int, end: int) -> bool:
    """Return whether a frame, padding or the end of the tag is there."""
    if place >= end:
        return place == end
    name = at(source, place, 4)
    return _FRAME_ID.fullmatch(name) is not None or not any(name)


def _excerpt(source: Source, frame: _Frame, version: int) -> bytes:
    """Return a frame for a tag of its own, cut if it is long; nothing for a long one that may hold anything."""
    name = _NEWER.get(frame.name, frame.name)
    if name in ("TXXX", "UFID") and frame.size_bytes > _MOST_OF_OTHERS_BYTES:
        return b""
    data = at(source, frame.start, min(frame.size_bytes, MOST_VALUE_BYTES))
    if version == 2:
        return frame.name.encode() + len(data).to_bytes(3, "big") + data
    size = _syncsafe(len(data)) if version == 4 else len(data).to_bytes(4, "big")
    return name.encode() + size + frame.flags + data


def _put(fields: Fields, tag: ID3) -> None:
    for frame in tag.values():
        if frame.FrameID == "UFID" and frame.owner == _MUSICBRAINZ:
            fields.put("musicbrainz_recording_id", [frame.data.decode("ascii", "replace")])
        elif frame.FrameID == "TXXX":
            fields.put(field_of(frame.desc) if "musicbrainz" in frame.desc.casefold() else None, frame.text)
        elif frame.FrameID in _WANTED and frame.FrameID != "UFID":
            fields.put(field_of(frame.FrameID), frame.text)


def _extended_bytes(field: bytes, version: int) -> int:
    """Return the length of an extended header. Some programs announce one and write none."""
    if _FRAME_ID.fullmatch(field):
        return 0
    return _size(field) if version == 4 else 4 + int.from_bytes(field, "big")


def _size(field: bytes) -> int:
    """Return a number of bytes of seven bits; of eight, if a program wrote them so."""
    if max(field, default=0) >= 0x80:
        return int.from_bytes(field, "big")
    return sum(byte << 7 * place for place, byte in enumerate(reversed(field)))


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
