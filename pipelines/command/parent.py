"""Do a job in a child process, so that somebody is left to say how it ended.

Ray's core, the kernel and the user can end a process between two instructions of Python. The parent only waits, so it
outlives whatever ends the job.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mgc.lifeline import die_with_parent
from pipelines.command.signals import Interrupts

_LOST_HEAD: Final = "Ray ends a driver like this when the head of its cluster (the GCS) is gone"
_LOST_MEMORY: Final = "somebody killed it, or the system ran out of memory (`dmesg` shows which)"
_NEXT: Final = "Run the same command again: it goes on from what was saved, and commits nothing twice."


@dataclass(frozen=True)
class Death:
    """The end of a child that did not give its exit code.

    Attributes:
        status: its exit status, or minus the number of the signal that killed it.
    """

    status: int

    @property
    def line(self) -> str:
        """What happened and what to do, in one line."""
        if self.status >= 0:
            return f"the job ended with status {self.status} before it could say why; {_LOST_HEAD}. {_NEXT}"
        number = -self.status
        names = {each.value: each.name for each in signal.Signals}
        why = {signal.SIGKILL.value: f"; {_LOST_MEMORY}", signal.SIGABRT.value: f"; {_LOST_HEAD}"}.get(number, "")
        return f"the job was ended by {names.get(number, f'signal {number}')}{why}. {_NEXT}"


def work_apart(work: Callable[[], int], interrupts: Interrupts) -> int | Death:
    """Do work in a child process and wait for it. Only the parent returns; the child exits.

    The parent passes signals on to the child, stops and continues with it, and takes it along if it is killed.

    Args:
        work: the work; it returns an exit code when everything about its outcome is said.
        interrupts: handler of this process. In the parent it records the signals that arrive meanwhile.

    Returns:
        The exit code that the work returned, even if Python or a library crashed after it; or how the child died.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # If the caller ignored it, the kernel would forget how the child ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    watched = {*interrupts.handled, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    parent = os.getpid()
    child = os.fork()
    if not child:
        die_with_parent()
        if os.getppid() != parent:
            # It ended before it could be tied to this process.
            os._exit(1)
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        code = work()
        os.write(writer, bytes([code]))
        interrupts.close()
        sys.exit(code)
    os.close(writer)
    status = _wait(child, watched, interrupts)
    try:
        told = os.read(reader, 1)
    except BlockingIOError:
        # A process that the child left behind still holds the other end.
        told = b""
    return told[0] if told else Death(status)


def _wait(child: int, watched: set[signal.Signals], interrupts: Interrupts) -> int:
    """Wait for the child, and pass signals on. Returns its status, see `Death`.

    Ctrl-C in a terminal reaches both processes. The child gets it twice then, and records the second one only.
    """
    while True:
        number = signal.Signals(signal.sigwaitinfo(watched).si_signo)
        if number == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            continue
        os.kill(child, number)
        if number == signal.SIGTSTP:
            _stop()
        elif number != signal.SIGCONT:
            interrupts.received.append(number)


def _stop() -> None:
    """Stop this process until it is continued, as the blocked SIGTSTP would have."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
