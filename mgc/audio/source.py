"""The bytes of a track, read by ranges. Probing and cutting need no more of any storage."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class ByteRange(NamedTuple):
    """Bytes from `start` up to `stop`, exclusive."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """Number of bytes."""
        return self.stop - self.start


class Source(Protocol):
    """A file of known size, read by several byte ranges at once."""

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range, cut at the end of the file. Ranges are not negative."""


@dataclass(frozen=True, eq=False)
class Held:
    """A file in memory.

    Attributes:
        data: bytes of the whole file.
    """

    data: bytes

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return len(self.data)

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range, cut at the end of the file."""
        return [self.data[start:stop] for start, stop in ranges]


@dataclass(frozen=True, eq=False)
class OpenFile:
    """An open local file, which the caller closes.

    Attributes:
        descriptor: file descriptor.
        size_bytes: length of the file.
    """

    descriptor: int
    size_bytes: int

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range, cut at the end of the file."""
        return [_pread(self.descriptor, piece) for piece in ranges]


def _pread(descriptor: int, piece: ByteRange) -> bytes:
    """Read one range. A single call returns at most 2 GiB."""
    parts: list[bytes] = []
    place = piece.start
    while place < piece.stop and (part := os.pread(descriptor, piece.stop - place, place)):
        parts.append(part)
        place += len(part)
    return b"".join(parts) if len(parts) != 1 else parts[0]


class Remembering:
    """A source that keeps what was read, because probing and cutting read the same first bytes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: list[tuple[ByteRange, bytes]] = []
        self.read_bytes = 0
        """Bytes read from the source so far."""

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return self._source.size_bytes

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range, cut at the end of the file."""
        within = [ByteRange(start, min(stop, self.size_bytes)) for start, stop in ranges]
        found = [self._recall(piece) for piece in within]
        missing = [piece for piece, data in zip(within, found, strict=True) if data is None]
        if missing:
            fresh = self._source.read(missing)
            self._kept += zip(missing, fresh, strict=True)
            self.read_bytes += sum(map(len, fresh))
            answers = iter(fresh)
            found = [next(answers) if data is None else data for data in found]
        return [data for data in found if data is not None]

    def _recall(self, piece: ByteRange) -> bytes | None:
        if piece.size_bytes <= 0:
            return b""
        for (start, stop), data in self._kept:
            if start <= piece.start and piece.stop <= stop:
                return data[piece.start - start : piece.stop - start]
        return None
