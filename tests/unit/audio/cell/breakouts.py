"""What a decoder that was taken over tries in its cell. A warden finds these functions here by name.

Each attempt returns only if it succeeds; what it returns would be the loot.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mgc.audio.cell.messages import Task

_C: Final = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    """Call C, and raise what it says."""
    result = int(getattr(_C, name)(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def read_environment(caller: int) -> bytes:
    return Path(f"/proc/{caller}/environ").read_bytes()


def read_own_environment(caller: int) -> bytes:
    kept = "".join(os.environ.values()).encode() + Path("/proc/self/environ").read_bytes()
    if not kept:
        raise PermissionError
    return kept


def remember_environment(caller: int) -> bytes:
    if not os.environ:
        raise PermissionError
    return repr(dict(os.environ)).encode()


def read_shadow(caller: int) -> bytes:
    return Path("/etc/shadow").read_bytes()


def read_home(caller: int) -> bytes:
    return repr(os.listdir("/root")).encode()  # noqa: PTH208


def write_file(caller: int) -> bytes:
    Path("/tmp/mgc-was-here").write_text("out")
    return b"written"


def write_shared_memory(caller: int) -> bytes:
    Path("/dev/shm/mgc-was-here").write_text("out")
    return b"written"


def open_memory_of_the_caller(caller: int) -> bytes:
    return str(os.open(f"/proc/{caller}/mem", os.O_RDWR)).encode()


def write_memory_of_the_caller(caller: int) -> bytes:
    class Piece(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    held = ctypes.create_string_buffer(8)
    here = Piece(ctypes.cast(held, ctypes.c_void_p), 8)
    _call("process_vm_writev", caller, ctypes.byref(here), 1, ctypes.byref(here), 1, 0)
    return b"written"


def trace_the_caller(caller: int) -> bytes:
    return str(_call("ptrace", 16, caller, None, None)).encode()


def kill_the_caller(caller: int) -> bytes:
    os.kill(caller, signal.SIGUSR1)
    return b"sent"


def kill_all(caller: int) -> bytes:
    os.kill(-1, signal.SIGUSR1)
    return b"sent"


def connect(caller: int) -> bytes:
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", 9))
        return b"connected"


def send_datagram(caller: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return str(sender.sendto(b"keys", ("127.0.0.1", 9))).encode()


def open_local_socket(caller: int) -> bytes:
    with socket.socket(socket.AF_UNIX) as local:
        return str(local.fileno()).encode()


def raise_memory_limit(caller: int) -> bytes:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return b"raised"


def raise_file_limit(caller: int) -> bytes:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    return b"raised"


def share_memory(caller: int) -> bytes:
    """Shared memory counts as no process's own."""
    with mmap.mmap(-1, 3 * 2**30) as held:
        return str(len(held)).encode()


def make_memory_file(caller: int) -> bytes:
    return str(os.memfd_create("mgc")).encode()


def fork(caller: int) -> bytes:
    for _ in range(300):
        if os.fork() == 0:
            while True:
                signal.pause()
    return b"forked"


def fork_and_hide(caller: int) -> bytes:
    """Leave a process that is in another group, in a session of its own, and whose parent is gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                signal.pause()
        os._exit(0)
    return b"forked"


def start_thread(caller: int) -> bytes:
    thread = threading.Thread(target=threading.Event().wait, args=(0.1,))
    try:
        thread.start()
    except RuntimeError as error:
        raise PermissionError from error
    return b"started"


def run_program(caller: int) -> bytes:
    os.execv("/bin/true", ["true"])
    return b"never"


def become_another(caller: int) -> bytes:
    os.setuid(65534)
    return b"became"


def leave_namespace(caller: int) -> bytes:
    _call("unshare", 0x1000_0000)
    return b"left"


def mount(caller: int) -> bytes:
    _call("mount", b"none", b"/mnt", b"tmpfs", 0, None)
    return b"mounted"


def duplicate(caller: int) -> bytes:
    return str(os.dup(1)).encode()


ATTEMPTS: Final[dict[str, Callable[[int], bytes]]] = {
    each.__name__: each
    for each in (
        *(read_environment, read_own_environment, remember_environment, read_shadow, read_home, write_file),
        *(write_shared_memory, open_memory_of_the_caller, write_memory_of_the_caller, trace_the_caller),
        *(kill_the_caller, kill_all, connect, send_datagram, open_local_socket, raise_memory_limit, raise_file_limit),
        *(
            share_memory,
            make_memory_file,
            fork,
            fork_and_hide,
            start_thread,
            run_program,
            become_another,
            leave_namespace,
            mount,
        ),
        *(duplicate,),
    )
}


class TakenOver:
    """Tries what the head of a task names, and answers with what stopped it, or with the loot."""

    facts = b"taken over"

    def __call__(self, task: Task) -> bytes:
        name, caller = task.head.decode().split(":")
        try:
            return b"out: " + ATTEMPTS[name](int(caller))
        except (OSError, ValueError, MemoryError) as error:
            return type(error).__name__.encode()
