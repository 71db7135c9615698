"""Run a function in a cell: a child process that survives neither its caller nor a fault, and can only compute.

Decoders are C code that reads bytes from anywhere. A cell that takes too long is ended, and so is one that says what no
sound cell says. After that, or after a crash, the next call gets a new one. One cell serves one caller; this is not a
pool. Linux closes its doors (`doors`); elsewhere it is a child process and no more.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from mgc.audio.cell.doors import Door
from mgc.audio.cell.messages import MOST_TASK_BYTES, Conversation, EndedError, MalformedError, Task
from mgc.audio.cell.warden import LENGTH, SPAWN, STATUS, Work
from mgc.errors import AudioError, ErrorKind, ResourceError
from mgc.units import format_bytes

CPU_SECONDS: Final = 3600
"""CPU time of a cell, unless one call may take longer. It gets a new one before it could run out of it."""

_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}
"""Environment of the warden. A cell uses one core, and may start no thread.

Each recording needs as much memory as the one before. By default glibc returns blocks of some MiB at once, and the
kernel zeroes each of their pages again for the next recording.
"""

_PROGRAM: Final = """
import sys
sys.path[:] = sys.argv[2:]
from mgc.audio.cell.warden import main
main(int(sys.argv[1]))
"""


class Isolated:
    """Calls a function in a cell. A context manager. Not for several threads at once.

    The cell is forked from a warden that has set up the function, so it starts quickly. It dies with its caller,
    however the caller ends.
    """

    def __init__(self, make: Callable[[], Work], environment: Mapping[str, str] | None = None) -> None:
        """Start the warden, which sets up the function while the caller does other things.

        Args:
            make: function that is called once in the warden and returns the function to run. It is pickled.
            environment: variables that the warden needs to start; none that a cell may not read.
        """
        self._make, self._environment = make, dict(environment or {})
        self._warden = _Warden(self._make, self._environment)
        self._cell: _Cell | None = None

    @property
    def facts(self) -> bytes:
        """What the function says of itself once it is set up. Waits for that.

        Raises:
            ResourceError: the warden does not start.
        """
        return self._warden.wait_for_facts()

    @property
    def closed(self) -> Door:
        """The doors that are closed on this machine. Waits for a cell.

        Raises:
            ResourceError: no cell starts.
        """
        return self._at_hand(0.0).closed

    def __call__(self, task: Task, timeout_seconds: float) -> bytearray:
        """Return the answer to a task.

        Args:
            task: what to hand over.
            timeout_seconds: time limit, counted from when the cell is handed the task.

        Raises:
            AudioError: `timeout`; `decoder_crash`, also if the answer is none; `too_large`, to be handed over.
            ResourceError: no cell starts.
        """
        if len(task.data) > MOST_TASK_BYTES:
            size, most = format_bytes(len(task.data)), format_bytes(MOST_TASK_BYTES)
            raise AudioError(ErrorKind.TOO_LARGE, f"{size} cannot be handed to the decoder, at most {most}")
        cell = self._at_hand(timeout_seconds)
        began = time.monotonic()
        try:
            answer = cell.conversation.ask(task, began + timeout_seconds)
        except TimeoutError:
            self._end_cell()
            raise AudioError(
                ErrorKind.TIMEOUT, f"decoding took more than {timeout_seconds:.0f} s and was stopped"
            ) from None
        except EndedError:
            text = f"the decoder crashed: {_describe_exit(self._end_cell())}"
            raise AudioError(ErrorKind.DECODER_CRASH, text) from None
        except MalformedError as error:
            raise self.distrust(str(error)) from None
        except BaseException:
            # The conversation has stopped in the middle.
            self._end_cell()
            raise
        cell.busy_seconds += time.monotonic() - began
        return answer

    def distrust(self, what: str) -> AudioError:
        """End the cell, because its answer makes no sense. Returns the error of the recording.

        Args:
            what: the part of the answer that makes no sense, in a few words.
        """
        self._end_cell()
        return AudioError(ErrorKind.DECODER_CRASH, f"the decoder's process was ended, because it sent {what}")

    def _at_hand(self, timeout_seconds: float) -> _Cell:
        """Return a cell that has CPU time left for a call."""
        if self._cell is not None and self._cell.busy_seconds + timeout_seconds > self._cell.cpu_seconds:
            self._end_cell()
        if self._cell is None:
            self._cell = self._spawn(max(CPU_SECONDS, math.ceil(timeout_seconds) + 1))
        return self._cell

    def _spawn(self, cpu_seconds: int) -> _Cell:
        for _ in range(2):
            self._warden.wait_for_facts()
            with contextlib.suppress(EndedError):
                return self._warden.spawn(cpu_seconds)
            # Something from outside has ended the warden, such as the kernel for lack of memory.
            self._warden.close()
            self._warden = _Warden(self._make, self._environment)
        raise _not_started()

    def _end_cell(self) -> int | None:
        cell, self._cell = self._cell, None
        return None if cell is None else cell.end()

    def close(self) -> None:
        """End the cell and its warden."""
        self._end_cell()
        self._warden.close()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the cell and its warden."""
        self.close()


class _Cell:
    """A running cell, as its caller sees it.

    Attributes:
        conversation: what is said with it.
        closed: the doors that it has closed.
        cpu_seconds: the CPU time that it may take.
        busy_seconds: the time that it has had for tasks so far.
    """

    def __init__(self, conversation: Conversation, life: socket.socket, closed: Door, cpu_seconds: int) -> None:
        self.conversation, self.closed, self.cpu_seconds = conversation, closed, cpu_seconds
        self.busy_seconds = 0.0
        self._life = life

    def __del__(self) -> None:
        # The keeper ends the cell of a caller that was dropped without being closed.
        self.conversation.close()
        self._life.close()

    def end(self) -> int | None:
        """End the cell and wait until it is gone. Returns its exit code, or None if its keeper is gone too."""
        self.conversation.close()
        with self._life, contextlib.suppress(OSError):
            self._life.shutdown(socket.SHUT_WR)
            said = self._life.recv(STATUS.size, socket.MSG_WAITALL)
            if len(said) == STATUS.size:
                return int(STATUS.unpack(said)[0])
        return None


class _Warden:
    """A process of `mgc.audio.cell.warden`, as its caller sees it."""

    def __init__(self, make: Callable[[], Work], environment: Mapping[str, str]) -> None:
        self._control, other = socket.socketpair()
        with other:
            command = [sys.executable, "-c", _PROGRAM, str(other.fileno()), *sys.path]
            # A session of its own: Ctrl-C is for the caller, which then closes its ends.
            self._process = subprocess.Popen(
                command,
                env={**environment, **_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )
        self._facts: bytes | None = None
        self.close: Callable[[], object] = weakref.finalize(self, _end_warden, self._control, self._process)
        setting_up = pickle.dumps(make)
        with contextlib.suppress(ConnectionError):
            self._control.sendall(LENGTH.pack(len(setting_up)) + setting_up)

    def wait_for_facts(self) -> bytes:
        """Wait until the function is set up, and return what it says of itself."""
        if self._facts is None:
            try:
                length = self._control.recv(LENGTH.size, socket.MSG_WAITALL)
                facts = self._control.recv(LENGTH.unpack(length)[0], socket.MSG_WAITALL)
            except (ConnectionError, struct.error):
                raise _not_started() from None
            self._facts = facts
        return self._facts

    def spawn(self, cpu_seconds: int) -> _Cell:
        """Return a new cell, with its doors closed.

        Raises:
            EndedError: there is none, because the warden or the cell has ended.
        """
        ours, theirs = socket.socketpair()
        life, keepers = socket.socketpair()
        conversation = Conversation(ours)
        try:
            with theirs, keepers:
                socket.send_fds(self._control, [SPAWN.pack(cpu_seconds)], [theirs.fileno(), keepers.fileno()])
            return _Cell(conversation, life, Door(conversation.wait_until_ready()), cpu_seconds)
        except (EndedError, ConnectionError):
            conversation.close()
            life.close()
            raise EndedError from None


class _Idle:
    """A function that does nothing. See `Work`."""

    facts = b""

    def __call__(self, task: Task) -> bytes:
        return b""


def try_doors() -> Door:
    """Start a cell that does nothing, and return the doors that it could close on this machine.

    Raises:
        ResourceError: no cell starts.
    """
    with Isolated(_Idle) as isolated:
        return isolated.closed


def _end_warden(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    # A warden that is still setting up does not look at its socket.
    process.kill()
    control.close()
    process.wait()


def _not_started() -> ResourceError:
    return ResourceError(
        "the process that decodes recordings does not start: look for its message above, and at the free memory."
    )


def _describe_exit(exit_code: int | None) -> str:
    if exit_code is None:
        return "it was ended with its keeper"
    if exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
