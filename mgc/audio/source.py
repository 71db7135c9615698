"""A track's bytes, read by ranges: what probing and cutting need of a storage that they do not know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class ByteRange(NamedTuple):
    """Bytes from `start` up to, not with, `stop`."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """How many there are."""
        return self.stop - self.start


class Source(Protocol):
    """A file whose size is known and whose bytes are read by ranges, many at once."""

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range, cut at the file's end. Ranges start at 0 or later and do not run backwards."""


@dataclass(frozen=True, eq=False)
class Held:
    """A source whose bytes are in memory.

    Attributes:
        data: the whole file.
    """

    data: bytes

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return len(self.data)

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range, cut at the file's end."""
        return [self.data[start:stop] for start, stop in ranges]


@dataclass(frozen=True, eq=False)
class OpenFile:
    """A local file that its opener closes.

    Attributes:
        descriptor: of the open file.
        size_bytes: its length.
    """

    descriptor: int
    size_bytes: int

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range, cut at the file's end."""
        return [_pread(self.descriptor, piece) for piece in ranges]


def _pread(descriptor: int, piece: ByteRange) -> bytes:
    """One range; a single call gives no more than 2 GiB."""
    parts: list[bytes] = []
    place = piece.start
    while place < piece.stop and (part := os.pread(descriptor, piece.stop - place, place)):
        parts.append(part)
        place += len(part)
    return b"".join(parts) if len(parts) != 1 else parts[0]


class Remembering:
    """A source that keeps what was read of it: probing and cutting look at the same first bytes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: list[tuple[ByteRange, bytes]] = []
        self.read_bytes = 0
        """Bytes asked of the source so far."""

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return self._source.size_bytes

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range, cut at the file's end."""
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
