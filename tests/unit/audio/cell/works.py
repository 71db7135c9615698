"""Functions that a cell runs in tests. A warden finds them here by name."""

from __future__ import annotations

import os
import resource
import signal
import time

from mgc.audio.cell.messages import MOST_RANGES, Task
from mgc.audio.source import ByteRange
from mgc.errors import AudioError


class Obedient:
    """Does what the head of a task says, or answers with bytes that tell one cell from another."""

    facts = b"obedient"
    identity = b""

    def __call__(self, task: Task) -> bytes:
        match task.head:
            case b"hang":
                while True:
                    time.sleep(60)
            case b"abort":
                os.abort()
            case b"kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case b"exit":
                os._exit(3)
            case b"raise":
                raise ValueError("as it should not")
            case b"echo":
                return task.data
            case b"take memory":
                held = [bytearray(16 * 2**20) for _ in range(4)]
                del held
                return str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt).encode()
            case b"read":
                return self._read(task, [ByteRange(1, 3), ByteRange(2, 2**40), ByteRange(0, 1)])
            case b"read many":
                return self._read(task, [ByteRange(place, place + 1) for place in range(3 * MOST_RANGES)])
        self.identity = self.identity or os.urandom(16)
        return self.identity

    def _read(self, task: Task, ranges: list[ByteRange]) -> bytes:
        assert task.source is not None
        try:
            return b"".join(task.source.read(ranges))
        except AudioError as error:
            return f"{error.kind}: {error}".encode()


class Unprepared:
    """A function that cannot be set up."""

    def __init__(self) -> None:
        raise ZeroDivisionError
