"""One label job as a child process: watched, and killed in its middle if that is wanted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.session.local_cluster import still_there
from tests.benchmarks.label.label_steady import DONE
from tests.benchmarks.processes import command, descendants
from tests.benchmarks.result import say
from tests.benchmarks.scale.watch import DRIVER, Kinds, Look, Watch

ENDING_SECONDS: Final = 120.0
"""Longest wait for the processes of a killed job."""

_KNOCK_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Killed:
    """A job that was killed.

    Attributes:
        tracks: that it had heard by then.
        processes: how many it had.
        ended: seconds until the last of each kind of process had ended.
        left: command lines of those that had not ended.
    """

    tracks: int
    processes: int
    ended: Mapping[str, float]
    left: Sequence[str]


@dataclass(frozen=True)
class Run:
    """A label job.

    Attributes:
        code: its exit code.
        seconds: from its start to its end, or until it was killed.
        first_track_seconds: from its start to its first line of progress that has tracks; None if there is none.
        moments: a look at each line of progress.
        looks: all that was seen.
        said: the lines that it printed.
        killed: its end, if it was killed.
    """

    code: int
    seconds: float
    first_track_seconds: float | None
    moments: Sequence[Look]
    looks: Sequence[Look]
    said: Sequence[str]
    killed: Killed | None

    @property
    def last_track_seconds(self) -> float:
        """From the start of the job to its last line of progress; 0 if it printed none."""
        return self.moments[-1].seconds if self.moments else 0.0


@dataclass(frozen=True)
class Place:
    """Where jobs run.

    Attributes:
        catalog: URI of the catalog.
        labels: folder of the labels table.
        bundle: URI of the model.
        temporary: the job's TMPDIR.
        ray: folder for Ray's session. Its path is short, because those of sockets must be.
    """

    catalog: str
    labels: Path
    bundle: str
    temporary: Path
    ray: Path

    @property
    def words(self) -> Sequence[str]:
        """The command."""
        arguments = [self.catalog, "--labels", str(self.labels), "--bundle", self.bundle]
        return [sys.executable, "-m", "pipelines.label", *arguments]

    @property
    def environment(self) -> Mapping[str, str]:
        """Its variables. A cluster that the person's environment names is not what is measured."""
        own = {"RAY_ADDRESS": "", "TMPDIR": str(self.temporary), "RAY_TMPDIR": str(self.ray)}
        return {**os.environ, **own}

    @property
    def folders(self) -> Mapping[str, Path]:
        """What a job keeps on the disk while it works."""
        return {"temporary": self.temporary, "session": self.ray, "run": self.labels / "_runs"}


def run(place: Place, every_seconds: float, kill_at: int | None = None) -> Run:
    """Label what there is to label.

    Args:
        place: where.
        every_seconds: time between two looks.
        kill_at: tracks after which the driver is killed; None lets it end.
    """
    began, said, moments, first, killed = time.monotonic(), list[str](), list[Look](), None, None
    with subprocess.Popen(
        place.words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=place.environment
    ) as job:
        assert job.stderr is not None
        watch = Watch(job.pid, place.folders, every_seconds)
        try:
            for line in job.stderr:
                said.append(line.rstrip())
                say(f"{time.monotonic() - began:7.1f} s  {line.rstrip()}")
                if not (done := DONE.match(line)):
                    continue
                watch.tracks = int(done[1].replace(",", ""))
                moments.append(watch.look())
                first = moments[-1].seconds if first is None and watch.tracks else first
                if kill_at is not None and watch.tracks >= kill_at:
                    killed = _kill(job.pid, watch.kinds, watch.tracks)
                    break
        finally:
            watch.stop()
    seconds = moments[-1].seconds if killed is not None else time.monotonic() - began
    return Run(job.returncode, seconds, first, moments, watch.looks, said, killed)


def _kill(job: int, kinds: Kinds, tracks: int) -> Killed:
    """Kill the driver alone, and see how long its processes take to end by themselves."""
    # The job's own process is the parent of the driver, and only waits for it.
    processes = {pid: kinds.of(pid) for pid in descendants(job)}
    os.kill(next(pid for pid, kind in processes.items() if kind == DRIVER), signal.SIGKILL)
    began, ended, left = time.monotonic(), dict[str, float](), list(processes)
    while left and (seconds := time.monotonic() - began) < ENDING_SECONDS:
        there = still_there(left, 0.0)
        ended |= {processes[pid]: seconds for pid in set(left) - set(there)}
        left = there
        time.sleep(_KNOCK_SECONDS)
    return Killed(tracks, len(processes), ended, [command(pid) for pid in left])
