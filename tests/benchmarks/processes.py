"""CPU and memory of processes, as Linux's /proc tells them."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from cluster.session import ray_internals

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process.

    Attributes:
        own_mb: of itself, and of files that it maps.
        shared_mb: of shared memory, such as the pages of an object store.
        most_mb: the most that it ever had of both.
    """

    own_mb: float
    shared_mb: float
    most_mb: float


def resident_mb(pid: int | None = None) -> float:
    """Resident memory of a process (this one by default) in MB; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * _PAGE_BYTES / 1e6


def memory(pid: int) -> Memory | None:
    """Memory of a process; None once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    sizes = {name: text.split()[0] for name, _, text in (line.partition(":") for line in lines) if text.endswith(" kB")}
    if "VmRSS" not in sizes:
        return None
    resident, shared, most = (int(sizes[name]) * 1024 / 1e6 for name in ("VmRSS", "RssShmem", "VmHWM"))
    return Memory(resident - shared, shared, most)


def cpu_seconds(pid: int) -> float | None:
    """CPU that a process has used, without its children; None once it has ended."""
    fields = _stat(pid)
    # User and system time are the 14th and 15th field; the text behind the name begins with the third.
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else None


def page_faults(pid: int) -> int:
    """Pages that the kernel gave a process, without those read from a disk; 0 once it has ended."""
    fields = _stat(pid)
    return int(fields[7]) if fields else 0


def _stat(pid: int) -> list[str]:
    """The fields of a process's `stat` from the third on; none once it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def children() -> dict[int, list[int]]:
    """The processes that are there, by their parents' ids."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in parentheses may hold spaces; the parent's id is the second field behind it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.setdefault(parent, []).append(int(entry.name))
    return found


def descendants(pid: int, below: dict[int, list[int]] | None = None) -> list[int]:
    """All processes below this one.

    Args:
        pid: this one.
        below: processes by their parents' ids; None looks now.
    """
    below = children() if below is None else below
    found, waiting = [], [pid]
    while waiting:
        under = below.get(waiting.pop(), [])
        found += under
        waiting += under
    return found


class CpuWatch:
    """Sums the CPU of a process and of all below it, those included that have ended since they were looked at.

    Args:
        pid: the process.
        every_seconds: time between two looks of its thread.

    Attributes:
        used: CPU seconds by process id.
    """

    def __init__(self, pid: int, every_seconds: float = 0.25) -> None:
        self.used: dict[int, float] = {}
        self._pid, self._every_seconds = pid, every_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def look(self) -> float:
        """The sum so far."""
        for pid in [self._pid, *descendants(self._pid)]:
            used = cpu_seconds(pid)
            if used is not None:
                self.used[pid] = used
        return sum(self.used.values())

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._every_seconds):
            self.look()


@dataclass
class MemoryWatch:
    """Watches the descendants of a process from a thread, until the `with` block ends.

    Attributes:
        pid: whose descendants.
        every_seconds: time between two looks; a peak between them goes unseen.
        peak_mb: largest resident memory seen, by process id.
        names: what each process calls itself at the end (Ray names its workers after the actor they run).
    """

    pid: int
    every_seconds: float = 0.2
    peak_mb: dict[int, float] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> MemoryWatch:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.every_seconds):
            for pid in descendants(self.pid):
                resident = resident_mb(pid)
                if resident:
                    self.peak_mb[pid] = max(resident, self.peak_mb.get(pid, 0.0))
                    name = command(pid)
                    # An idle worker's name says so; the work it did is what matters.
                    if name and not (ray_internals.is_idle_title(name) and pid in self.names):
                        self.names[pid] = name


def command(pid: int) -> str:
    """Command line of a process, or the title that it gave itself; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
