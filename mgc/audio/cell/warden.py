"""The process that forks cells, and the one that keeps each.

The warden starts with nothing of its caller's: no environment, no open files, no memory. It imports what the function
in the cell needs and sees no byte of a recording. So what a cell inherits from it holds no secret, and a new cell
starts quickly after a crash.

Between warden and cell is a keeper. It ends the cell, with all that the cell may have started, when the caller closes
its end of a socket, which a caller does that dies. It is the first process of the cell's namespace, if there is one.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, Protocol

from mgc.audio.cell import kernel
from mgc.audio.cell.doors import Door, close_doors, enter_namespaces
from mgc.audio.cell.messages import Cell, Task
from mgc.lifeline import die_with_parent

LENGTH: Final = struct.Struct("<Q")
"""In front of what the caller sends, and of what the warden answers."""

SPAWN: Final = struct.Struct("<Q")
"""CPU seconds of a new cell; with it come the cell's ends of the two sockets."""

STATUS: Final = struct.Struct("<i")
"""Exit code of the cell's process; below zero, the signal that ended it."""


class Work(Protocol):
    """A function that a cell runs, set up.

    Attributes:
        facts: what the caller must know of it to read its answers.
    """

    facts: bytes

    def __call__(self, task: Task) -> bytes:
        """Return the answer to a task."""


def main(descriptor: int) -> None:
    """Set up the function that the caller names, and fork a cell for each request, until the caller is gone."""
    control = socket.socket(fileno=descriptor)
    (length,) = LENGTH.unpack(control.recv(LENGTH.size, socket.MSG_WAITALL))
    # From the caller, who is trusted; nothing that a cell says is unpickled anywhere.
    make: Callable[[], Work] = pickle.loads(control.recv(length, socket.MSG_WAITALL))  # noqa: S301
    work = make()
    control.sendall(LENGTH.pack(len(work.facts)) + work.facts)
    # A collection would write to pages that the cells share.
    gc.freeze()
    # Keepers whose parent has ended become children of this process, which forgets them when they end.
    _adopt_orphans()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, SPAWN.size, 2)
        if not request:
            os._exit(0)
        (cpu_seconds,) = SPAWN.unpack(request)
        conversation, life = (socket.socket(fileno=each) for each in descriptors)
        if os.fork() == 0:
            control.close()
            _run_to_the_end(partial(_keep, work, conversation, life, cpu_seconds))
        conversation.close()
        life.close()


def _run_to_the_end(run: Callable[[], None]) -> NoReturn:
    """Run a forked process, which must not return into the code of the process that it is a copy of."""
    code = 1
    try:
        run()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def _keep(work: Work, conversation: socket.socket, life: socket.socket, cpu_seconds: int) -> None:
    """Fork a cell, wait until the caller closes its end of `life`, end the cell, and say how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    closed = enter_namespaces()
    if Door.PROCESSES in closed and os.fork():
        return
    _adopt_orphans()
    cell = os.fork()
    if cell == 0:
        life.close()
        _run_to_the_end(partial(_serve, work, conversation.detach(), cpu_seconds, closed))
    conversation.close()
    life.recv(1)
    # A cell that has ended already keeps its status.
    os.kill(cell, signal.SIGKILL)
    _, status = os.waitpid(cell, 0)
    _end_all(cell)
    with contextlib.suppress(OSError):
        life.sendall(STATUS.pack(os.waitstatus_to_exitcode(status)))


def _adopt_orphans() -> None:
    """Become the parent of descendants whose parent has ended, where the kernel offers it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


def _end_all(cell: int) -> None:
    """End what the cell has started, if it could start anything."""
    if os.getpid() == 1:
        # All of the namespace but this process.
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)
            while True:
                os.waitpid(-1, 0)
        return
    with contextlib.suppress(OSError):
        os.killpg(cell, signal.SIGKILL)
    children = Path("/proc/thread-self/children")
    # Ends with the last child, or where the kernel does not list them.
    with contextlib.suppress(OSError):
        while True:
            listed = children.read_text().split()
            for child in listed:
                os.kill(int(child), signal.SIGKILL)
            os.waitpid(-1, 0 if listed else os.WNOHANG)


def _serve(work: Work, conversation: int, cpu_seconds: int, closed: Door) -> None:
    """Be a cell: close the doors, and answer tasks until the caller closes its end."""
    os.setsid()
    die_with_parent()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    os.environ.clear()
    cell = Cell(conversation)
    cell.say_ready(closed | close_doors(cpu_seconds))
    for task in cell.tasks():
        cell.answer(work(task))
