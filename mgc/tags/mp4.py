"""The item list of MP4 (M4A, M4B, MOV), which mutagen reads. Pictures and sample tables are skipped."""

from __future__ import annotations

from typing import Final

from mutagen.mp4 import Atoms, MP4Tags

from mgc.audio.source import ByteRange, Joined, Source
from mgc.tags.reader import MOST_VALUE_BYTES, Fields, SourceStream, field_of, number_at

_MOST_BOXES: Final = 64
"""Most boxes to step over before the one with the tags."""


def read_mp4(source: Source, fields: Fields) -> None:
    """Read the item list of an MP4 file, wherever in it that is."""
    moov = _find(source)
    if moov is None:
        return
    stream = SourceStream(moov)
    atoms = Atoms(stream)
    if b"moov.udta.meta.ilst" not in atoms:
        return
    items = atoms.path(b"moov", b"udta", b"meta", b"ilst")[-1]
    items.children = [
        each for each in items.children or () if each.name != b"covr" and each.datalength <= MOST_VALUE_BYTES
    ]
    for key, values in MP4Tags(atoms, stream).items():
        # A key of other programs is `----:com.apple.iTunes:MusicBrainz Album Id`.
        texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in _many(values)]
        fields.put(field_of(key.rpartition(":")[2]), texts)


def _many(values: object) -> list[object]:
    return values if isinstance(values, list) else [values]


def _find(source: Source) -> Source | None:
    """Return the box `moov` as a source of its own."""
    start = 0
    for _ in range(_MOST_BOXES):
        if start + 8 > source.size_bytes:
            return None
        size, name = number_at(source, start, 4, "big"), number_at(source, start + 4, 4, "big")
        if size == 1:
            size = number_at(source, start + 8, 8, "big")
        elif size == 0:
            size = source.size_bytes - start
        if size < 8:
            raise ValueError("a box of the MP4 file has no size")
        if name == int.from_bytes(b"moov", "big"):
            return Joined((source, ByteRange(start, min(start + size, source.size_bytes))))
        start += size
    return None
