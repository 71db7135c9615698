"""What a caller takes from a cell that says what no sound cell says."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from mgc.audio.cell.messages import (
    MOST_ANSWER_BYTES,
    MOST_RANGES,
    MOST_READ_BYTES,
    Conversation,
    EndedError,
    MalformedError,
    Task,
)
from mgc.audio.source import Held

SOURCE = Held(bytes(100))


@pytest.fixture
def ends() -> Iterator[tuple[Conversation, socket.socket]]:
    """The caller's conversation, and a socket that says what it likes in place of a cell."""
    ours, theirs = socket.socketpair()
    conversation = Conversation(ours)
    yield conversation, theirs
    conversation.close()
    theirs.close()


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def frame(kind: bytes, length: int) -> bytes:
    return struct.pack("<cQ", kind, length)


def ranges(*pairs: tuple[int, int]) -> bytes:
    return frame(b"R", 16 * len(pairs)) + b"".join(struct.pack("<QQ", *pair) for pair in pairs)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(frame(b"P", 4) + b"cos\n", id="of another kind"),
        pytest.param(frame(b"A", MOST_ANSWER_BYTES + 1), id="an answer too long"),
        pytest.param(frame(b"A", 2**64 - 1), id="an answer longer than memory"),
        pytest.param(frame(b"R", 0), id="a request for nothing"),
        pytest.param(frame(b"R", 17), id="a request of half a range"),
        pytest.param(frame(b"R", 16 * (MOST_RANGES + 1)), id="too many ranges"),
        pytest.param(ranges((5, 4)), id="a range backwards"),
        pytest.param(ranges((0, 101)), id="beyond the end"),
        pytest.param(ranges((2**63, 2**64 - 1)), id="far beyond the end"),
    ],
)
def test_what_makes_no_sense_is_refused(ends: tuple[Conversation, socket.socket], said: bytes) -> None:
    conversation, cell = ends
    cell.sendall(said)
    with pytest.raises(MalformedError):
        conversation.ask(Task(b"", b"", SOURCE), soon())


def test_no_more_is_read_at_once_than_is_allowed(ends: tuple[Conversation, socket.socket]) -> None:
    """Each range may be as long as the file, and so they may be asked for 64 times."""
    conversation, cell = ends
    cell.sendall(ranges(*[(0, MOST_READ_BYTES)] * 2))

    class Unread(Held):
        size_bytes = MOST_READ_BYTES

        def read(self, ranges: object) -> list[bytes]:
            raise AssertionError("it must not be read")

    with pytest.raises(MalformedError):
        conversation.ask(Task(b"", b"", Unread(b"")), soon())


def test_a_request_without_a_source_is_refused(ends: tuple[Conversation, socket.socket]) -> None:
    conversation, cell = ends
    cell.sendall(ranges((0, 1)))
    with pytest.raises(MalformedError):
        conversation.ask(Task(b"", b"data"), soon())


def test_an_answer_that_does_not_come_is_not_waited_for(ends: tuple[Conversation, socket.socket]) -> None:
    """A byte now and then does not put the deadline off."""
    conversation, cell = ends
    stop = threading.Event()

    def drip() -> None:
        cell.sendall(frame(b"A", 10_000))
        while not stop.wait(0.05):
            cell.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        with pytest.raises(TimeoutError):
            conversation.ask(Task(b"", b""), soon(0.5))
    finally:
        stop.set()
        dripping.join()


def test_a_cell_that_does_not_listen_is_not_waited_for(ends: tuple[Conversation, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        ends[0].ask(Task(b"", bytes(10_000_000)), soon(0.3))


def test_the_end_in_the_middle_of_a_message(ends: tuple[Conversation, socket.socket]) -> None:
    conversation, cell = ends
    cell.sendall(frame(b"A", 10) + b"half")
    cell.shutdown(socket.SHUT_WR)
    with pytest.raises(EndedError):
        conversation.ask(Task(b"", b""), soon())
