"""Walk the chunks of a file of the IFF family: WAV, Sony Wave64, AIFF, CAF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from mgc.audio.probe.reader import BoundedReader

MAX_CHUNKS: Final = 512
"""Chunks looked at in one file."""


class Layout(NamedTuple):
    """How a format writes its chunks' heads."""

    form: str
    """Name and size, as a format of `struct`."""
    align: int
    """Chunks begin at multiples of this many bytes from the first one on."""
    size_counts_head: bool = False


class Chunk(NamedTuple):
    """One chunk's contents: where they begin, where they end (within the file), and what size is announced."""

    name: bytes
    start: int
    stop: int
    announced_bytes: int


def chunks(reader: BoundedReader, start: int, stop: int, layout: Layout) -> Iterator[Chunk]:
    """The chunks from `start` on; one whose size lies beyond `stop` ends there, and is the last.

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
