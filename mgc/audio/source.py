"""The bytes of a track, read by ranges. Probing and cutting need no more of any storage."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NamedTuple, Protocol

from mgc.errors import AudioError, ErrorKind


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


class LocalFile:
    """A local file. Once closed, it reads the same file again, or refuses if it was replaced meanwhile."""

    def __init__(self, path: str, descriptor: int) -> None:
        """Take over an open file.

        Args:
            path: its path.
            descriptor: its file descriptor; `close` closes it.
        """
        self._path, self._descriptor = path, descriptor
        self.status = os.fstat(descriptor)
        """Status of the file when it was opened."""
        self._identity = _identify(self.status)

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return self._identity[2]

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range, cut at the end of the file.

        Raises:
            AudioError: `fetch_failed`, the file cannot be read or was replaced.
        """
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
                if _identify(os.fstat(self._descriptor)) != self._identity:
                    # The next read must not find it open.
                    self.close()
                    raise AudioError(ErrorKind.FETCH_FAILED, "it was replaced while it was read; make the catalog anew")
            return [_pread(self._descriptor, piece) for piece in ranges]
        except OSError as error:
            raise AudioError(ErrorKind.FETCH_FAILED, f"cannot read it: {error.strerror or error}") from None

    def close(self) -> None:
        """Close the file. The next read opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


def _identify(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _pread(descriptor: int, piece: ByteRange) -> bytes:
    """Read one range. A single call returns at most 2 GiB."""
    parts: list[bytes] = []
    place = piece.start
    while place < piece.stop and (part := os.pread(descriptor, piece.stop - place, place)):
        parts.append(part)
        place += len(part)
    return b"".join(parts) if len(parts) != 1 else parts[0]


class Joined:
    """Stretches of sources, one behind the other, as one source. One stretch alone is a part of a file."""

    def __init__(self, *stretches: tuple[Source, ByteRange]) -> None:
        """Take the stretches, which lie within their sources."""
        self._stretches = stretches
        self._starts = list(accumulate((piece.size_bytes for _, piece in stretches), initial=0))

    @property
    def size_bytes(self) -> int:
        """Length of all stretches together."""
        return self._starts[-1]

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range, cut at the end."""
        return [b"".join(self._read(piece)) for piece in ranges]

    def _read(self, piece: ByteRange) -> Iterator[bytes]:
        for (source, within), begin in zip(self._stretches, self._starts, strict=False):
            start, stop = max(piece.start, begin), min(piece.stop, begin + within.size_bytes)
            if start < stop:
                moved = within.start - begin
                yield source.read([ByteRange(start + moved, stop + moved)])[0]


class SourceFile(io.RawIOBase):
    """A source as a file for C libraries, which cannot pass on a Python error.

    An error of the source ends the file for the library and is kept in `failure`. A seek before the start stays where
    it is, as in C.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source, self._place = source, 0
        self._block, self._block_start = b"", 0
        self.failure: Exception | None = None
        """What the source raised, or None."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a byte."""
        base = (0, self._place, self._source.size_bytes)[whence]
        if base + offset >= 0:
            self._place = base + offset
        return self._place

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; 0 at the end, or if the source fails."""
        view = memoryview(buffer).cast("B")
        begin = self._place - self._block_start
        if not 0 <= begin < len(self._block):
            stop = min(self._source.size_bytes, self._place + max(len(view), READ_AHEAD_BYTES))
            if self._place >= stop or self.failure is not None:
                return 0
            try:
                (self._block,) = self._source.read([ByteRange(self._place, stop)])
            except Exception as error:  # noqa: BLE001 - a C library calls; the caller raises it again
                self.failure = error
                return 0
            self._block_start, begin = self._place, 0
        count = min(len(view), len(self._block) - begin)
        view[:count] = self._block[begin : begin + count]
        self._place += count
        return count


READ_AHEAD_BYTES: Final = 1 << 20
"""Bytes that a decoder's file reads at once."""


class HeldFile(io.BytesIO):
    """A file in memory for C libraries. A seek before the start stays where it is, as in C."""

    failure: Final[Exception | None] = None

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a byte."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def open_source(source: Source) -> HeldFile | SourceFile:
    """Return a source as a file for a C library."""
    return HeldFile(source.data) if isinstance(source, Held) else SourceFile(source)


def take(source: Source, *pieces: ByteRange | bytes) -> Source:
    """Return pieces of a source, and bytes that stand between them, as one source.

    Args:
        source: file.
        pieces: byte ranges of the file within its size, or bytes that it does not have.
    """
    if isinstance(source, Held):
        held = [piece if isinstance(piece, bytes) else source.data[piece.start : piece.stop] for piece in pieces]
        return Held(held[0] if len(held) == 1 else b"".join(held))
    return Joined(
        *((Held(piece), ByteRange(0, len(piece))) if isinstance(piece, bytes) else (source, piece) for piece in pieces)
    )


class Scanner:
    """Reads a source from front to back in large blocks, so that a large file is never in memory as a whole."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start, self._data = 0, source.data if isinstance(source, Held) else b""

    def ahead(self, offset: int, least: int) -> tuple[bytes, int]:
        """Return bytes that hold `least` bytes from an offset on, as far as the file goes, and its place in them.

        Args:
            offset: offset in the file, never before that of an earlier call by more than a block.
            least: number of bytes needed from there on.
        """
        place = offset - self._start
        if place < 0 or place + least > len(self._data):
            size_bytes = self._source.size_bytes
            if self._start + len(self._data) >= size_bytes and place >= 0:
                return self._data, min(place, len(self._data))
            stop = min(size_bytes, offset + max(least, SCANNED_BYTES))
            (self._data,) = self._source.read([ByteRange(offset, stop)])
            self._start, place = offset, 0
        return self._data, place


SCANNED_BYTES: Final = 1 << 22
"""Bytes that a scanner reads at once."""


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
