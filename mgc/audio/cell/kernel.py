"""Calls of the Linux kernel that Python 3.11 does not have."""

from __future__ import annotations

import ctypes
import os
from typing import Final

PR_SET_DUMPABLE: Final = 4
PR_SET_SECCOMP: Final = 22
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38

CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

_CAPABILITIES_VERSION: Final = 0x2008_0522

_C: Final = ctypes.CDLL(None, use_errno=True)
_C.syscall.restype = ctypes.c_long


def prctl(option: int, value: int = 0, pointer: ctypes.c_void_p | None = None) -> None:
    """Change a property of this process.

    Raises:
        OSError: the kernel does not do it.
    """
    second = ctypes.c_ulong(0) if pointer is None else pointer
    _check(_C.prctl(option, ctypes.c_ulong(value), second, ctypes.c_ulong(0), ctypes.c_ulong(0)))


def unshare(flags: int) -> None:
    """Move this process (of CLONE_NEWPID: its children) into new namespaces.

    Raises:
        OSError: the kernel does not do it.
    """
    _check(_C.unshare(ctypes.c_int(flags)))


def drop_capabilities() -> None:
    """Give up what root may do beyond other users, for good once there are no new privileges.

    Raises:
        OSError: the kernel does not do it.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    _check(_C.capset(header, (ctypes.c_uint32 * 6)()))


def landlock_create_ruleset(handled: ctypes.Array[ctypes.c_uint64] | None, flags: int) -> int:
    """Return the file descriptor of a ruleset, or the version of Landlock if `flags` is 1.

    Raises:
        OSError: the kernel has no Landlock.
    """
    size = 0 if handled is None else ctypes.sizeof(handled)
    return _check(_C.syscall(ctypes.c_long(444), handled, ctypes.c_size_t(size), ctypes.c_uint32(flags)))


def landlock_restrict_self(ruleset: int) -> None:
    """Hold this thread and its children to a ruleset.

    Raises:
        OSError: the kernel does not do it.
    """
    _check(_C.syscall(ctypes.c_long(446), ctypes.c_int(ruleset), ctypes.c_uint32(0)))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
