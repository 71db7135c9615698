"""The header of ASF, which WMA files have. Attributes that are no text, such as pictures, are skipped."""

from __future__ import annotations

from typing import Final

from mgc.audio.source import Source
from mgc.tags.reader import MOST_VALUE_BYTES, Fields, at, field_of, number_at

HEADER: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
"""How an ASF file begins."""

_DESCRIPTION: Final = bytes.fromhex("3326b2758e66cf11a6d900aa0062ce6c")
_EXTENDED_DESCRIPTION: Final = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")
_HEADER_EXTENSION: Final = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
_METADATA: Final = bytes.fromhex("eacbf8c5af5b77488467aa8c44fa4cca")
_METADATA_LIBRARY: Final = bytes.fromhex("941c23449894d149a1411d134e457054")
_TEXT: Final = 0


def read_asf(source: Source, start: int, fields: Fields) -> None:
    """Read the attributes of an ASF file that begins at `start`."""
    end = min(start + number_at(source, start + 16, 8), source.size_bytes)
    _read_objects(source, start + 30, end, fields)


def _read_objects(source: Source, start: int, end: int, fields: Fields) -> None:
    # A field's first value is in a description, the others in the library of an extension, which may come before it.
    extensions: list[tuple[int, int]] = []
    while start + 24 <= end:
        name, size = at(source, start, 16), number_at(source, start + 16, 8)
        if size < 24:
            raise ValueError("an object of the ASF header has no size")
        content, stop = start + 24, min(start + size, end)
        if name == _DESCRIPTION:
            _read_description(source, content, fields)
        elif name == _EXTENDED_DESCRIPTION:
            _read_attributes(source, content, fields)
        elif name in (_METADATA, _METADATA_LIBRARY):
            _read_library(source, content, fields)
        elif name == _HEADER_EXTENSION:
            extensions.append((content + 22, stop))
        start += size
    for content, stop in extensions:
        _read_objects(source, content, stop, fields)


def _read_description(source: Source, start: int, fields: Fields) -> None:
    sizes = [number_at(source, start + 2 * place, 2) for place in range(5)]
    start += 10
    for field, size in zip(("title", "artist"), sizes, strict=False):
        fields.put(field, [_text(at(source, start, size))])
        start += size


def _read_attributes(source: Source, start: int, fields: Fields) -> None:
    count = number_at(source, start, 2)
    start += 2
    for _ in range(count):
        name_bytes = number_at(source, start, 2)
        name = _text(at(source, start + 2, name_bytes))
        start += 2 + name_bytes
        kind, size = number_at(source, start, 2), number_at(source, start + 2, 2)
        _put(source, name, kind, start + 4, size, fields)
        start += 4 + size


def _read_library(source: Source, start: int, fields: Fields) -> None:
    count = number_at(source, start, 2)
    start += 2
    for _ in range(count):
        name_bytes, kind = number_at(source, start + 4, 2), number_at(source, start + 6, 2)
        size = number_at(source, start + 8, 4)
        name = _text(at(source, start + 12, name_bytes))
        _put(source, name, kind, start + 12 + name_bytes, size, fields)
        start += 12 + name_bytes + size


def _put(source: Source, name: str, kind: int, start: int, size: int, fields: Fields) -> None:
    field = field_of(name)
    if field is not None and kind == _TEXT:
        fields.put(field, [_text(at(source, start, min(size, MOST_VALUE_BYTES)))])


def _text(data: bytes) -> str:
    return data.decode("utf-16-le", "replace").rstrip("\0")
