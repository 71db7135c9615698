"""The system calls that are left to a closed cell, as a filter for seccomp.

The filter names what is allowed; all else fails with EPERM. A decoder needs memory, a clock, and to read and write file
descriptors that are already open. It needs no new thread: nothing it uses has more than one (see `warden`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from mgc.audio.cell import kernel

_ALLOWED: Final = {
    # Memory.
    "brk": (12, 214),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "mincore": (27, 232),
    "membarrier": (324, 283),
    # What is already open.
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "close": (3, 57),
    # Time, and waiting.
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "restart_syscall": (219, 128),
    # Questions about itself and its processor.
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "getcpu": (309, 168),
    "sched_getaffinity": (204, 123),
    "getrandom": (318, 278),
    # Signals that it handles, and its end.
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
"""System calls with their numbers on x86-64 and on 64-bit ARM."""

_ITSELF: Final = {"kill": (62, 129), "tgkill": (234, 131)}
"""Calls whose first argument must be this process: abort() sends itself a signal."""

_PRLIMIT: Final = (302, 261)
"""Allowed only to ask for its own limits."""


class _Machine(NamedTuple):
    """A kind of processor: the place of its numbers in the tables, and its name in the kernel's audit."""

    column: int
    audit: int


_MACHINES: Final = {"x86_64": _Machine(0, 0xC000_003E), "aarch64": _Machine(1, 0xC000_00B7)}

_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_KILL, _ALLOW, _REFUSE = 0x8000_0000, 0x7FFF_0000, 0x0005_0000 | errno.EPERM
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Places in what the kernel shows a filter."""

_MODE_FILTER: Final = 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def install() -> None:
    """Allow this process nothing but what a closed cell needs.

    Raises:
        OSError: the kernel, or the container, has no seccomp, or there is no list for this kind of processor.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, f"no list of system calls for {platform.machine()}")
    code = _compile(machine, os.getpid())
    program = _Program(len(code), b"".join(code))
    kernel.prctl(kernel.PR_SET_SECCOMP, _MODE_FILTER, ctypes.cast(ctypes.byref(program), ctypes.c_void_p))


def _compile(machine: _Machine, pid: int) -> list[bytes]:
    """Return the instructions of the filter."""
    code = [_do(_LOAD, _ARCHITECTURE), _do(_IF_EQUAL, machine.audit, 1, 0), _do(_RETURN, _KILL), _do(_LOAD, _NUMBER)]
    for numbers in _ALLOWED.values():
        code += _allow(numbers[machine.column], {})
    for numbers in _ITSELF.values():
        code += _allow(numbers[machine.column], {_ARGUMENTS: pid})
    # Process 0 is itself; no new limits, an address of 64 bits.
    code += _allow(_PRLIMIT[machine.column], {_ARGUMENTS: 0, _ARGUMENTS + 16: 0, _ARGUMENTS + 20: 0})
    return [*code, _do(_RETURN, _REFUSE)]


def _allow(number: int, words: Mapping[int, int]) -> list[bytes]:
    """Return instructions that allow a call if its arguments have these 32-bit words at these places."""
    checks: list[bytes] = []
    for left, (place, word) in zip(range(len(words), 0, -1), words.items(), strict=True):
        checks += [_do(_LOAD, place), _do(_IF_EQUAL, word, 0, 2 * left - 1)]
    body = [*checks, _do(_RETURN, _ALLOW), _do(_RETURN, _REFUSE)]
    return [_do(_IF_EQUAL, number, 0, len(body)), *body]


def _do(what: int, value: int, skipped_if_so: int = 0, skipped_if_not: int = 0) -> bytes:
    """Return an instruction. A comparison skips instructions by its outcome."""
    return struct.pack("=HBBI", what, skipped_if_so, skipped_if_not, value)
