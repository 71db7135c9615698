"""APEv2, at the end of a file: Monkey's Audio, WavPack, Musepack, and MP3."""

from __future__ import annotations

from typing import Final

from mgc.audio.source import Source
from mgc.tags.id3 import V1_BYTES
from mgc.tags.reader import MOST_VALUE_BYTES, Fields, at, field_of

_SIGN: Final = b"APETAGEX"
_FOOTER_BYTES: Final = 32
_MOST_KEY_BYTES: Final = 256
_KIND: Final = 0b110
"""Bits of an item's flags that are 0 for text."""


def read_ape(source: Source, fields: Fields) -> None:
    """Read the APE tag at the end of a file, before an ID3v1 tag if there is one. Pictures are skipped."""
    for end in (source.size_bytes, source.size_bytes - V1_BYTES):
        footer = at(source, end - _FOOTER_BYTES, _FOOTER_BYTES) if end >= _FOOTER_BYTES else b""
        if not footer.startswith(_SIGN):
            continue
        version, size, count = (int.from_bytes(footer[place : place + 4], "little") for place in (8, 12, 16))
        last = end - _FOOTER_BYTES
        _read_items(source, max(end - size, 0), last, count, "latin-1" if version < 2000 else "utf-8", fields)
        return


def _read_items(source: Source, start: int, end: int, count: int, encoding: str, fields: Fields) -> None:
    for _ in range(count):
        if start + 8 >= end:
            return
        head = at(source, start, min(8 + _MOST_KEY_BYTES, end - start))
        size, flags = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little")
        key, nul, _ = head[8:].partition(b"\0")
        if not nul:
            raise ValueError("an item of the APE tag has no key")
        start += 8 + len(key) + 1
        field = field_of(key.decode("ascii", "replace"))
        if field is not None and not flags & _KIND:
            text = at(source, start, min(size, MOST_VALUE_BYTES, end - start))
            fields.put(field, [text.decode(encoding, "replace")])
        start += size
