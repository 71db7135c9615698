"""Read one file by a few short ranges, whatever its bytes say."""

from __future__ import annotations

import struct
from typing import Any, Final

from mgc.audio.source import ByteRange, Source

BLOCK_BYTES: Final = 1 << 16
"""Longest single read; also the length of the first one."""

TAIL_BYTES: Final = 1 << 14
"""Bytes read at the end of the file together with its head: tags without pictures, and mostly the last page of Ogg."""

MAX_READS: Final = 24
"""Most ranges read of one file, head and tail included: at most 1.5 MiB in all."""


class OutOfBytesError(Exception):
    """The file or the permitted reads ended. The facts found so far remain."""


class BoundedReader:
    """Reads a file for a parser. Keeps blocks that were read; a read beyond the limits returns nothing.

    Args:
        source: file. Its head and tail are read at once.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size_bytes: Final = source.size_bytes
        ranges = [ByteRange(0, min(self.size_bytes, BLOCK_BYTES))]
        if self.size_bytes > BLOCK_BYTES:
            ranges.append(ByteRange(max(BLOCK_BYTES, self.size_bytes - TAIL_BYTES), self.size_bytes))
        self._reads_left = MAX_READS - len(ranges)
        self._blocks = [(part.start, data) for part, data in zip(ranges, source.read(ranges), strict=True)]

    def stretch(self, offset: int, least: int, ahead: int = BLOCK_BYTES) -> bytes:
        """Return the bytes from an offset on, as many as one block holds.

        Args:
            offset: offset of the first byte.
            least: number of bytes needed; fewer are returned only at the end of the file or of the permitted reads.
            ahead: number of bytes to read if no block that was read holds the needed ones.
        """
        least = min(least, BLOCK_BYTES, self.size_bytes - offset)
        if offset < 0 or least <= 0:
            return b""
        for start, data in self._blocks:
            if start <= offset and offset + least <= start + len(data):
                return data[offset - start :]
        if self._reads_left == 0:
            return b""
        self._reads_left -= 1
        stop = min(self.size_bytes, offset + max(least, min(ahead, BLOCK_BYTES)))
        [data] = self._source.read([ByteRange(offset, stop)])
        self._blocks.append((offset, data))
        return data

    def upto(self, offset: int, count: int, ahead: int = BLOCK_BYTES) -> bytes:
        """Return `count` bytes; fewer only at the end of the file or of the permitted reads."""
        return self.stretch(offset, count, ahead)[: max(count, 0)]

    def need(self, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes.

        Raises:
            OutOfBytesError: they are not there, or lie beyond the permitted reads.
        """
        data = self.upto(offset, count)
        if len(data) < count:
            raise OutOfBytesError
        return data

    def unpack(self, form: str, offset: int) -> tuple[Any, ...]:
        """Return the values at an offset, by a format of `struct`.

        Raises:
            OutOfBytesError: as `need`.
        """
        return struct.unpack(form, self.need(offset, struct.calcsize(form)))
