"""Work that makes no progress ends, and says why: other work holds the cluster, or its workers are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Final

import ray
from ray.data import DataContext
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from cluster.session import ray_internals
from cluster.session.causes import full_disk_line, killed_workers_line
from cluster.session.profiles import Profile
from mgc.errors import ResourceError

FEWEST_KILLED: Final = 5
"""Workers killed during a stall that explain it. Fewer are an accident, and Ray starts others."""

_STALLED: Final = signal.SIGUSR1
"""Signal that this process sends to itself, so that its main thread raises."""


@contextlib.contextmanager
def explained_stalls(profile: Profile) -> Iterator[None]:
    """Explain in one line that a job waited in vain: its workers are killed, or other work holds the resources.

    Raises:
        ResourceError: the job waited in vain.
    """
    began = time.time()
    try:
        yield
    except Exception as error:
        if not _is_stall(error):
            raise
        killed = _killed_since(began)
        if killed is not None:
            raise ResourceError(killed) from None
        full = full_disk_line()
        if full is not None:
            # Ray starts no worker whose log it cannot write, and says nothing.
            raise ResourceError(f"nothing moved for {profile.stall_seconds:g} s: {full}") from None
        free = ray.available_resources()
        raise ResourceError(
            f"nothing moved for {profile.stall_seconds:g} s. Of the cluster's {profile.logical_cpus:g} CPUs and "
            f"{profile.gpus} GPUs, {free.get('CPU', 0.0):g} and {free.get('GPU', 0.0):g} are free. Other work may hold "
            "the rest (`ray status`): run the job again when that work has ended, or add nodes."
        ) from None


def _is_stall(error: Exception) -> bool:
    """Return whether a stream, training workers, or a stream in a training lacked resources."""
    if isinstance(error, ExecutionTimeoutError):
        return True
    # All actors that listen or predict import this file. Only a process that trains knows the errors of Ray Train.
    if "ray.train" not in sys.modules:
        return False
    from ray.train import ControllerError, WorkerGroupError

    if isinstance(error, ControllerError):
        return ray_internals.is_worker_start_timeout(error.controller_failure)
    if isinstance(error, WorkerGroupError):
        return any(ExecutionTimeoutError.__name__ in str(failure) for failure in error.worker_failures.values())
    return False


def _killed_since(began: float) -> str | None:
    """Return the line about workers that were killed since a time; None if they are too few to explain a stall."""
    try:
        killed = ray_internals.killed_workers(began)
    except (RayError, OSError, RuntimeError):
        # The head does not answer. That ends the job by itself.
        return None
    return killed_workers_line(killed) if len(killed) >= FEWEST_KILLED else None


class StallWatch:
    """Ends work whose workers are killed again and again while its counters stand still.

    Ray Data's own timer cannot: it stands still too while Ray Data waits for a worker of its own that is killed.
    """

    def __init__(self) -> None:
        self._counts: Mapping[str, int] | None = None
        self._moved = time.time()
        self._line: str | None = None

    def look(self, counts: Mapping[str, int] | None) -> None:
        """Compare the counters with the last ones.

        Args:
            counts: the counters; None if they did not answer.
        """
        if counts is not None and counts != self._counts:
            self._counts, self._moved = dict(counts), time.time()
            return
        # Twice the time after which Ray Data ends by itself, so that it has the first word.
        patience = 2 * (DataContext.get_current().execution_no_progress_timeout_s or 0)
        if self._line is None and 0 < patience < time.time() - self._moved:
            self._line = _killed_since(self._moved)
            if self._line is not None:
                os.kill(os.getpid(), _STALLED)

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Let the body raise when the work has stalled. Off the main thread, where no signal arrives, it does nothing.

        Raises:
            ResourceError: the work has stalled.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(_STALLED, self._end)
        try:
            yield
        finally:
            signal.signal(_STALLED, before)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._line is not None:
            raise ResourceError(self._line)
