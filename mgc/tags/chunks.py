"""RIFF (WAV), AIFF and DSF: chunks, one of which may hold an ID3 tag."""

from __future__ import annotations

from typing import Any, Final

from mgc.audio.source import Source
from mgc.tags.id3 import read_id3
from mgc.tags.reader import MOST_VALUE_BYTES, Fields, at, field_of, number_at

_MOST_CHUNKS: Final = 128
_UNKNOWN: Final = 0xFFFFFFFF
"""Size of a chunk that is stated in the chunk `ds64`."""


def read_chunks(source: Source, start: int, fields: Fields) -> None:
    """Read the tags of a RIFF, RF64 or AIFF file that begins at `start`.

    An ID3 tag wins over a list of the kind `INFO`.
    """
    order: Any = "big" if at(source, start, 4) == b"FORM" else "little"
    info, place = Fields(), start + 12
    data_bytes = _UNKNOWN
    for _ in range(_MOST_CHUNKS):
        head = at(source, place, 8)
        if len(head) < 8:
            break
        name, size = head[:4], int.from_bytes(head[4:], order)
        if name == b"ds64":
            data_bytes = number_at(source, place + 16, 8)
        elif name == b"data" and size == _UNKNOWN:
            size = data_bytes
        elif name.lower() == b"id3 ":
            read_id3(source, place + 8, fields)
        elif name == b"LIST" and at(source, place + 8, 4) == b"INFO":
            _read_info(source, place + 12, min(place + 8 + size, source.size_bytes), info)
        place += 8 + size + size % 2
    fields.behind(info)


def read_dsf(source: Source, fields: Fields) -> None:
    """Read the ID3 tag of a DSF file, whose header says where it is."""
    place = number_at(source, 20, 8)
    if place:
        read_id3(source, place, fields)


def _read_info(source: Source, start: int, end: int, fields: Fields) -> None:
    while start + 8 <= end:
        head = at(source, start, 8)
        size = int.from_bytes(head[4:], "little")
        field = field_of(head[:4].decode("ascii", "replace"))
        if field is not None:
            text = at(source, start + 8, min(size, MOST_VALUE_BYTES, end - start - 8)).partition(b"\0")[0]
            fields.put(field, [_decoded(text)])
        start += 8 + size + size % 2


def _decoded(text: bytes) -> str:
    """Return a text whose encoding the format leaves open."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace")
