"""Walk the chunks of a file of the IFF family: WAV, Sony Wave64, AIFF, CAF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from mgc.audio.probe.reader import BoundedReader

MAX_CHUNKS: Final = 512
"""Most chunks that are read in one file."""


class Layout(NamedTuple):
    """Layout of the chunk heads of a format."""

    form: str
    """Name and size, as a format of `struct`."""
    align: int
    """Chunks begin at multiples of this many bytes, counted from the first one."""
    size_counts_head: bool = False


class Chunk(NamedTuple):
    """Content of a chunk: its start, its end within the file, and its announced size."""

    name: bytes
    start: int
    stop: int
    announced_bytes: int


def chunks(reader: BoundedReader, start: int, stop: int, layout: Layout) -> Iterator[Chunk]:
    """Yield the chunks from `start` on. A chunk that claims to reach beyond `stop` ends there, and is the last.

    Raises:
        OutOfBytesError: as `BoundedReader.need`.
    """
    head_bytes = struct.calcsize(layout.form)
    for _ in range(MAX_CHUNKS):
        if start + head_bytes > stop:
            return
        name, size = reader.unpack(layout.form, start)
        body = start + head_bytes
        if layout.size_counts_head:
            size -= head_bytes
        end = body + size if size >= 0 else stop
        yield Chunk(name, body, min(end, stop), size)
        start = end + -(end - start) % layout.align
