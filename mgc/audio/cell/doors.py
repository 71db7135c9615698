"""The doors of a cell: what the kernel offers to keep a process from all but computing.

Each is tried, and those that closed are told to the caller. No kernel offers all, and a container may forbid some.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Callable
from enum import IntFlag
from functools import partial
from pathlib import Path
from typing import Final

from mgc.audio.cell import kernel, seccomp
from mgc.units import GIB

MEMORY_BYTES: Final = 2 * GIB
"""Memory that a cell may take after its set-up. A decoder that asks for more gets an error."""


class Door(IntFlag):
    """A way out of a cell that is closed."""

    LIMITS = 1
    CAPABILITIES = 2
    PRIVILEGES = 4
    FILES = 8
    NETWORK = 16
    SIGNALS = 32
    CALLS = 64
    USERS = 128
    INTERFACES = 256
    MESSAGES = 512
    PROCESSES = 1024


DOORS: Final = {
    Door.LIMITS: "resource limits",
    Door.CAPABILITIES: "no capabilities",
    Door.PRIVILEGES: "no new privileges",
    Door.FILES: "Landlock for files",
    Door.NETWORK: "Landlock for TCP",
    Door.SIGNALS: "Landlock for signals",
    Door.CALLS: "seccomp",
    Door.USERS: "a user namespace",
    Door.INTERFACES: "a network namespace",
    Door.MESSAGES: "an IPC namespace",
    Door.PROCESSES: "a PID namespace",
}
"""What closes each door, in words."""

_NAMESPACES: Final = {
    # The first gives an ordinary user the right to the others.
    Door.USERS: kernel.CLONE_NEWUSER,
    Door.INTERFACES: kernel.CLONE_NEWNET,
    Door.MESSAGES: kernel.CLONE_NEWIPC,
    Door.PROCESSES: kernel.CLONE_NEWPID,
}

_FILE_RIGHTS: Final = (13, 14, 15, 15, 16)
"""Number of rights over files that Landlock 1, 2, … knows."""

_NETWORK_VERSION: Final = 4
_SCOPE_VERSION: Final = 6
"""Versions of Landlock from which on it knows TCP, and sockets without a file and signals."""


def enter_namespaces() -> Door:
    """Move this process into namespaces of its own; of `Door.PROCESSES`, only its children."""
    closed = Door(0)
    if sys.platform == "linux":
        for door, flag in _NAMESPACES.items():
            closed |= _try(door, partial(kernel.unshare, flag))
    return closed


def close_doors(cpu_seconds: int) -> Door:
    """Keep this process, which must have a single thread, from all but computing. It cannot be undone.

    Args:
        cpu_seconds: CPU time that the process may take from its start on.
    """
    if sys.platform != "linux":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return Door(0)
    held_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    closed = _try(Door.CAPABILITIES, kernel.drop_capabilities)
    closed |= _try(Door.PRIVILEGES, partial(kernel.prctl, kernel.PR_SET_NO_NEW_PRIVS, 1))
    with contextlib.suppress(OSError):
        # A dump would go to a program that runs as root and reads what a decoder left.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    with contextlib.suppress(OSError):
        closed |= _restrict_files()
    closed |= _try(Door.LIMITS, partial(_limit, held_bytes + MEMORY_BYTES, cpu_seconds))
    return closed | _try(Door.CALLS, seccomp.install)


def _try(door: Door, close: Callable[[], None]) -> Door:
    try:
        close()
    except (OSError, ValueError):
        return Door(0)
    return door


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Set limits that cannot be raised. What is open stays open, but nothing can be opened, and no file grows."""
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (allowed, allowed))


def _restrict_files() -> Door:
    """Forbid all that this kernel's Landlock knows.

    Raises:
        OSError: it has none.
    """
    version = kernel.landlock_create_ruleset(None, 1)
    rights = (1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS)) - 1]) - 1
    handled, closed = [rights], Door.FILES
    if version >= _NETWORK_VERSION:
        handled.append(0b11)
        closed |= Door.NETWORK
    if version >= _SCOPE_VERSION:
        handled.append(0b11)
        closed |= Door.SIGNALS
    ruleset = kernel.landlock_create_ruleset((ctypes.c_uint64 * len(handled))(*handled), 0)
    try:
        kernel.landlock_restrict_self(ruleset)
    finally:
        os.close(ruleset)
    return closed
