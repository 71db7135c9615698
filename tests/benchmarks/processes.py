"""Resident memory of processes, as Linux's /proc tells it."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from cluster.session import ray_internals

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_mb(pid: int | None = None) -> float:
    """Resident memory of a process (this one by default) in MB; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * _PAGE_BYTES / 1e6


def descendants(pid: int) -> list[int]:
    """All processes below this one, by their parents' ids."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in parentheses may hold spaces; the parent's id is the second field behind it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


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
                    name = _name(pid)
                    # An idle worker's name says so; the work it did is what matters.
                    if name and not (ray_internals.is_idle_title(name) and pid in self.names):
                        self.names[pid] = name


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
