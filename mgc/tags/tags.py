"""The tags of an audio file: what it says of itself, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from mgc.audio.source import ByteRange, Source
from mgc.tags import ape, asf, chunks, id3, mp4, vorbis
from mgc.tags.reader import Fields, Reader, clean


@dataclass(frozen=True)
class Tags:
    """What the tags of a file say.

    Attributes:
        fields: values by field, the keys of `mgc.tags.reader.FIELDS`. Texts are of one line.
        fault: why a tag could not be read to its end, as one line; None if all were. The fields before are there.
        read_bytes: number of bytes read of the file.
    """

    fields: dict[str, list[str]] = field(default_factory=dict)
    fault: str | None = None
    read_bytes: int = 0

    def of(self, name: str) -> Sequence[str]:
        """Return the values of a field, in the order of the file."""
        return self.fields.get(name, ())


def read_tags(source: Source) -> Tags:
    """Read the tags of a file: ID3, APEv2, Vorbis comments, and those of MP4, ASF, RIFF, AIFF and DSF.

    Reads blocks of 4 KiB and never more than 256 KiB: pictures and sound are skipped. Where a file has several tags,
    the first one that knows a field decides: ID3v2, then the container's own, then APEv2, then ID3v1.

    Args:
        source: the file.

    Returns:
        The tags. A damaged tag gives the fields before the damage, and its fault.

    Raises:
        Exception: what the source raises.
    """
    reader = Reader(source)
    found, faults = Fields(), list[str]()

    def read(parse: Callable[..., int | None], *where: object) -> int | None:
        """Run a parser. Whatever a stranger's bytes make it raise is a fault of the file, unless the source failed."""
        fields = Fields()
        try:
            return parse(*where, fields)
        except Exception as error:  # noqa: BLE001 - mutagen raises what its own code happens to raise
            faults.append(clean(f"{parse.__name__.lstrip('_').removeprefix('read_')}: {error}")[:200])
        finally:
            found.behind(fields)
        return None

    start = _behind_id3(reader, read)
    told = {"genre", "artist"}
    # What lies behind a tag, or at the end of the file, costs a request of its own.
    head = b"" if start and told <= found.keys() else reader.at(start, 16)
    if head.startswith(b"fLaC"):
        read(vorbis.read_flac, reader, start)
    elif head.startswith(b"OggS"):
        read(vorbis.read_ogg, reader, start)
    elif head.startswith(asf.HEADER):
        read(asf.read_asf, reader, start)
    elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        read(mp4.read_mp4, reader)
    elif head.startswith((b"RIFF", b"RF64", b"FORM")):
        read(chunks.read_chunks, reader, start)
    elif head.startswith(b"DSD "):
        read(chunks.read_dsf, reader)
    elif not told <= found.keys():
        read(ape.read_ape, reader)
        read(_read_id3v1, reader)
    if reader.failure is not None:
        raise reader.failure
    return Tags(dict(found), "; ".join(faults) or None, reader.read_bytes)


def _behind_id3(reader: Reader, read: Callable[..., int | None]) -> int:
    """Read the ID3v2 tags at the beginning. Returns the place behind them."""
    start = 0
    for _ in range(_MOST_TAGS):
        end = read(id3.read_id3, reader, start)
        if end is None or end == start:
            break
        start = end
    return start


_MOST_TAGS: Final = 4
"""Most ID3v2 tags of one file, one behind the other."""


def _read_id3v1(reader: Reader, fields: Fields) -> None:
    start = max(reader.size_bytes - id3.V1_BYTES, 0)
    id3.read_id3v1(reader.read([ByteRange(start, reader.size_bytes)])[0], fields)
