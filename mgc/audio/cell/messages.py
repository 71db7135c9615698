"""What a caller and its cell say to each other over a socket: raw bytes behind fixed headers, and no pickle.

The caller trusts nothing that it reads: `Conversation` bounds each message before it takes it. The cell trusts its
caller, so `Cell` only reads what it is told.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

from mgc.audio.source import ByteRange, Source
from mgc.errors import AudioError, ErrorKind
from mgc.units import GIB

MOST_TASK_BYTES: Final = GIB
"""Most bytes of a recording that a cell is handed. Of a larger one it is handed a source."""

MOST_ANSWER_BYTES: Final = GIB
"""Most bytes of an answer."""

MOST_READ_BYTES: Final = 1 << 24
"""Most bytes of a source that a cell may ask for at once."""

MOST_RANGES: Final = 64
"""Most byte ranges of a source that a cell may ask for at once."""

MOST_TEXT: Final = 1_000
"""Most characters of a text that crosses."""

_PIECE_BYTES: Final = 1 << 24
"""Memory that is taken for a message at a time."""

_TASK: Final = struct.Struct("<QQq")
"""Bytes of the head, bytes of the data, size of the source (-1: there is none)."""

_FRAME: Final = struct.Struct("<cQ")
"""Kind of what follows, and its bytes."""

_RANGE: Final = struct.Struct("<QQ")
_FAILURE: Final = struct.Struct("<B")
_READY: Final = struct.Struct("<I")

_READ, _ANSWER, _DATA, _FAILED = b"R", b"A", b"D", b"F"
_KINDS: Final = tuple(ErrorKind)


class EndedError(Exception):
    """The other end of the conversation is gone."""


class MalformedError(Exception):
    """The cell said what no intact cell says."""


class Task(NamedTuple):
    """What a cell is handed.

    Attributes:
        head: description of the recording, which only the function in the cell understands.
        data: bytes of the recording, or of a part of it.
        source: the recording, if it is read by ranges, or None.
    """

    head: bytes
    data: bytes
    source: Source | None = None


class Conversation:
    """The caller's end. Every wait ends at a deadline, in seconds of `time.monotonic`, with TimeoutError."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connected socket."""
        self._connection = connection

    def wait_until_ready(self) -> int:
        """Wait without a deadline until the cell has closed its doors. Returns which, as bits.

        Raises:
            EndedError: it has ended.
        """
        (doors,) = _READY.unpack(self._receive(_READY.size, None))
        return int(doors)

    def ask(self, task: Task, deadline: float) -> bytearray:
        """Hand over a task, read the source for the cell, and return the cell's answer.

        Args:
            task: at most `MOST_TASK_BYTES` of data.
            deadline: when to give up. A read of the source is waited for in any case.

        Raises:
            EndedError: the cell has ended.
            MalformedError: it said what no intact cell says.
            TimeoutError: the deadline has passed.
        """
        size_bytes = -1 if task.source is None else task.source.size_bytes
        self._send(_TASK.pack(len(task.head), len(task.data), size_bytes) + task.head, deadline)
        self._send(task.data, deadline)
        while True:
            kind, length = _FRAME.unpack(self._receive(_FRAME.size, deadline))
            if kind == _ANSWER:
                if length > MOST_ANSWER_BYTES:
                    raise MalformedError(f"an answer of {length} bytes")
                return self._receive(length, deadline)
            if kind != _READ or task.source is None:
                raise MalformedError(f"a message of kind {kind!r}")
            if length % _RANGE.size or not 0 < length <= MOST_RANGES * _RANGE.size:
                raise MalformedError(f"a request of {length} bytes")
            ranges = [ByteRange(*pair) for pair in _RANGE.iter_unpack(self._receive(length, deadline))]
            self._read(task.source, ranges, deadline)

    def _read(self, source: Source, ranges: Sequence[ByteRange], deadline: float) -> None:
        if any(start > stop or stop > source.size_bytes for start, stop in ranges):
            raise MalformedError("a request beyond the end of the file")
        if sum(piece.size_bytes for piece in ranges) > MOST_READ_BYTES:
            raise MalformedError("a request for more bytes than may be asked for at once")
        try:
            parts = source.read(ranges)
        except AudioError as error:
            text = str(error)[:MOST_TEXT].encode(errors="backslashreplace")
            self._send(_FRAME.pack(_FAILED, 1 + len(text)) + _FAILURE.pack(_KINDS.index(error.kind)) + text, deadline)
            return
        # A source that has become shorter gives fewer bytes.
        lengths = struct.pack(f"<{len(parts)}Q", *map(len, parts))
        size_bytes = len(lengths) + sum(map(len, parts))
        self._send(b"".join([_FRAME.pack(_DATA, size_bytes), lengths, *parts]), deadline)

    def _send(self, data: bytes, deadline: float) -> None:
        self._connection.settimeout(_left(deadline))
        try:
            self._connection.sendall(data)
        except ConnectionError:
            raise EndedError from None

    def _receive(self, count: int, deadline: float | None) -> bytearray:
        # The memory grows as bytes come, so a false length costs little.
        received = bytearray()
        while len(received) < count:
            place = len(received)
            received += bytes(min(count - place, _PIECE_BYTES))
            with memoryview(received) as view:
                while place < len(view):
                    self._connection.settimeout(None if deadline is None else _left(deadline))
                    try:
                        got = self._connection.recv_into(view[place:])
                    except ConnectionError:
                        got = 0
                    if not got:
                        raise EndedError
                    place += got
        return received

    def close(self) -> None:
        """Close this end, at which a sound cell ends."""
        self._connection.close()


def _left(deadline: float) -> float:
    """Return the seconds until a deadline, or raise TimeoutError."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class Cell:
    """The cell's end. It only reads and writes, which a closed cell still may."""

    def __init__(self, descriptor: int) -> None:
        """Take over the file descriptor of a connected socket."""
        self._descriptor = descriptor
        self._file: BinaryIO = open(descriptor, "rb", closefd=False)  # noqa: SIM115 - as long as the process

    def say_ready(self, doors: int) -> None:
        """Say which doors are closed, as bits."""
        self._write(_READY.pack(doors))

    def tasks(self) -> Iterator[Task]:
        """Yield one task after the other, until the caller closes its end."""
        while head := self._file.read(_TASK.size):
            head_bytes, data_bytes, size_bytes = _TASK.unpack(head)
            source = None if size_bytes < 0 else _Asked(self, size_bytes)
            yield Task(self._file.read(head_bytes), self._file.read(data_bytes), source)

    def answer(self, data: bytes) -> None:
        """Answer the task that was yielded last."""
        self._write(_FRAME.pack(_ANSWER, len(data)))
        self._write(data)

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Ask the caller for byte ranges of the task's source: at most `MOST_RANGES`, `MOST_READ_BYTES` in all.

        Raises:
            AudioError: the caller cannot read it.
        """
        wanted = b"".join(_RANGE.pack(*piece) for piece in ranges)
        self._write(_FRAME.pack(_READ, len(wanted)) + wanted)
        kind, length = _FRAME.unpack(self._file.read(_FRAME.size))
        if kind == _FAILED:
            (number,) = _FAILURE.unpack(self._file.read(_FAILURE.size))
            raise AudioError(_KINDS[number], self._file.read(length - _FAILURE.size).decode())
        lengths = struct.unpack(f"<{len(ranges)}Q", self._file.read(8 * len(ranges)))
        return [self._file.read(each) for each in lengths]

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while len(view):
            view = view[os.write(self._descriptor, view) :]


class _Asked:
    """The task's source in the cell: the caller reads what the cell asks for."""

    def __init__(self, cell: Cell, size_bytes: int) -> None:
        self._cell, self._size_bytes = cell, size_bytes

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        pieces = [piece for wanted in ranges for piece in self._cut(wanted)]
        parts = [part for group in _groups(pieces) for part in self._cell.read(group)]
        found = iter(parts)
        return [b"".join(next(found) for _ in self._cut(wanted)) for wanted in ranges]

    def _cut(self, wanted: ByteRange) -> Iterator[ByteRange]:
        """Yield the pieces of a range that may each be asked for."""
        stop = min(wanted.stop, self._size_bytes)
        for start in range(wanted.start, stop, MOST_READ_BYTES):
            yield ByteRange(start, min(start + MOST_READ_BYTES, stop))


def _groups(pieces: Sequence[ByteRange]) -> Iterator[list[ByteRange]]:
    """Yield pieces in groups that may be asked for at once."""
    group: list[ByteRange] = []
    for piece in pieces:
        full = len(group) == MOST_RANGES
        if group and (full or sum(each.size_bytes for each in group) + piece.size_bytes > MOST_READ_BYTES):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group
