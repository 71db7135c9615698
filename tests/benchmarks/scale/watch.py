"""Watch a job while it works: CPU and memory of its processes by kind, and what it keeps on the disk."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.session import ray_internals
from tests.benchmarks.processes import CpuWatch, command, descendants, memory

DRIVER: Final = "driver"
RAYLET: Final = "raylet"
GCS: Final = "gcs"
_OTHERS: Final = "others"

_JOB: Final = "pipelines.label"
_CELL: Final = "mgc.audio.cell"
_AGENTS: Final = ("DashboardAgent", "RuntimeEnvAgent")
_STAGES: Final = {"Listen": "listeners", "Label": "predictors"}

_CPU_EVERY_SECONDS: Final = 1.0


def kind_of(line: str) -> str:
    """What a process of a job is, by its command line or title."""
    for stage, kind in _STAGES.items():
        if line.startswith(ray_internals.map_worker_title(stage)):
            return kind
    if ray_internals.is_worker_title(line):
        name = ray_internals.worker_name(line)
        return "counters" if name == "Counts" else "agents" if name in _AGENTS else "tasks"
    program = line.partition(" ")[0]
    for part, kind in ((ray_internals.RAYLET, RAYLET), (ray_internals.HEAD, GCS)):
        if part.decode() in program:
            return kind
    for part, kind in ((_CELL, "cells"), (_JOB, DRIVER), ("/ray/", "agents")):
        if part in line:
            return kind
    return _OTHERS


class Kinds:
    """The kinds of the processes that were seen, by process id."""

    def __init__(self) -> None:
        self._kinds: dict[int, str] = {}

    def of(self, pid: int) -> str:
        """The kind of a process. An actor stays one while its title says that it waits, and when it has ended."""
        if (known := self._kinds.get(pid)) not in (*_STAGES.values(), "counters") and (line := command(pid)):
            known = self._kinds[pid] = kind_of(line)
        return known or _OTHERS


@dataclass(frozen=True)
class Kept:
    """Files in a folder.

    Attributes:
        files: how many.
        size_bytes: of all.
    """

    files: int
    size_bytes: int


def kept_in(folder: Path) -> Kept:
    """The files below a folder; none where there is no folder."""
    sizes = []
    for path, _, names in os.walk(folder):
        for name in names:
            # Sockets and files come and go meanwhile.
            with contextlib.suppress(FileNotFoundError):
                sizes.append((Path(path) / name).lstat().st_size)
    return Kept(len(sizes), sum(sizes))


def store_mb(raylet: int) -> float:
    """Memory that a node's object store has taken: what of its file in shared memory was ever written.

    Workers write into the file too, so the raylet's own shared memory says nothing.
    """
    sizes = dict[int, int]()
    # Only the user who started the raylet may look, and only while it is there.
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{raylet}/fd").iterdir():
            if fd.readlink().is_relative_to("/dev/shm"):
                sizes[fd.stat().st_ino] = fd.stat().st_blocks * 512
    return sum(sizes.values()) / 1e6


@dataclass(frozen=True)
class Look:
    """What was seen of a job at a moment.

    Attributes:
        seconds: since the job began.
        tracks: that it had done, by its last line of progress.
        cpu_seconds: used so far, by kind of process.
        processes: how many there were, by kind.
        own_mb: memory of the largest process of each kind, without shared memory.
        store_mb: memory that the object store has taken.
        driver_most_mb: the most memory that the driver has had.
        kept: files in each of the watched folders.
    """

    seconds: float
    tracks: int
    cpu_seconds: Mapping[str, float]
    processes: Mapping[str, int]
    own_mb: Mapping[str, float]
    store_mb: float
    driver_most_mb: float
    kept: Mapping[str, Kept]


class Watch:
    """Looks at a job every few seconds, from a thread.

    Args:
        pid: the job.
        folders: folders to watch, by name.
        every_seconds: time between two looks.

    Attributes:
        looks: what was seen.
        tracks: what the job has done so far; whoever reads its lines of progress sets it.
        kinds: of its processes.
    """

    def __init__(self, pid: int, folders: Mapping[str, Path], every_seconds: float) -> None:
        self.looks: list[Look] = []
        self.tracks = 0
        self._pid, self._folders, self._every_seconds = pid, folders, every_seconds
        self._began = time.monotonic()
        self.kinds = Kinds()
        self._cpu = CpuWatch(pid, min(every_seconds, _CPU_EVERY_SECONDS))
        self._over, self._looking = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def look(self) -> Look:
        """Look now."""
        with self._looking:
            self._cpu.look()
            self.looks.append(self._seen())
            return self.looks[-1]

    def stop(self) -> None:
        """End the threads."""
        self._over.set()
        self._thread.join()
        self._cpu.stop()

    def _watch(self) -> None:
        while not self._over.wait(self._every_seconds):
            self.look()

    def _seen(self) -> Look:
        cpu, processes, own = Counter[str](), Counter[str](), dict[str, float]()
        stored_mb = driver_most_mb = 0.0
        for pid in [self._pid, *descendants(self._pid)]:
            if (used := memory(pid)) is None:
                continue
            kind = self.kinds.of(pid)
            processes[kind] += 1
            own[kind] = max(own.get(kind, 0.0), used.own_mb)
            if kind == RAYLET:
                stored_mb = store_mb(pid)
            if kind == DRIVER:
                driver_most_mb = used.most_mb
        for pid, seconds in self._cpu.used.copy().items():
            cpu[self.kinds.of(pid)] += seconds
        kept = {name: kept_in(folder) for name, folder in self._folders.items()}
        seconds = time.monotonic() - self._began
        return Look(seconds, self.tracks, dict(cpu), dict(processes), own, stored_mb, driver_most_mb, kept)
