"""Reads by ranges out of one file, few and short whatever its bytes say."""

from __future__ import annotations

import struct
from typing import Any, Final

from mgc.audio.source import ByteRange, Source

BLOCK_BYTES: Final = 1 << 16
"""No single read is longer, the head's included."""

TAIL_BYTES: Final = 1 << 14
"""What is read of the file's end together with the head: tags that hold no picture, mostly an Ogg file's last page."""

MAX_READS: Final = 24
"""Ranges read of one file, head and tail included; so at most 1.5 MiB in all."""


class OutOfBytesError(Exception):
    """The file, or the reads that a probe may make, ended; what has been found until then stands."""


class BoundedReader:
    """What a parser sees of a file. Blocks once read are kept; a read past the bounds finds nothing.

    Args:
        source: the file. Its head and tail are read at once.
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
        """Bytes from an offset on, as many as one block has of them.

        Args:
            offset: where they begin.
            least: how many are needed; fewer come only at the end of the file or of the reads allowed.
            ahead: how many to read if none of the blocks already read holds what is needed.
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
        """`count` bytes, fewer only at the end of the file or of the reads allowed."""
        return self.stretch(offset, count, ahead)[: max(count, 0)]

    def need(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes.

        Raises:
            OutOfBytesError: if they are not there, or lie beyond what a probe may read.
        """
        data = self.upto(offset, count)
        if len(data) < count:
            raise OutOfBytesError
        return data

    def unpack(self, form: str, offset: int) -> tuple[Any, ...]:
        """Numbers at an offset, by a format of `struct`.

        Raises:
            OutOfBytesError: as `need`.
        """
        return struct.unpack(form, self.need(offset, struct.calcsize(form)))
