"""A night by tenths of its tracks: rate, CPU and memory, from the moments at which its jobs said how far they were."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from tests.benchmarks.scale.watch import DRIVER, Look

TENTHS: Final = 10
_STARTED: Final = 0.01
"""Share of the tracks after which the workers' start no longer counts."""

_STEPS: Final = 10
"""Fewest lines of progress that tell what time takes from what tracks take."""


@dataclass(frozen=True)
class Tenth:
    """What a tenth of the tracks took.

    Attributes:
        tracks_per_second: by the clock.
        cpu_ms: CPU of all processes a track.
        driver_ms: CPU of the driver a track.
        own_mb: memory by kind of process, of the largest one, the median over the tenth.
        store_mb: memory that the object store has taken, at the end.
        temporary_files: files in TMPDIR, the most.
        session_files: files of Ray's session, the most.
        session_bytes: their size, the most.
        run_files: files of the run's folder, the most.
        run_bytes: their size, the most.
    """

    tracks_per_second: float
    cpu_ms: float
    driver_ms: float
    own_mb: Mapping[str, float]
    store_mb: float
    temporary_files: int
    session_files: int
    session_bytes: int
    run_files: int
    run_bytes: int


@dataclass(frozen=True)
class DriverCost:
    """CPU of the driver, divided into what time takes and what tracks take.

    Attributes:
        ms_a_second: whatever it does meanwhile.
        ms_a_track: on top, for each track.
    """

    ms_a_second: float
    ms_a_track: float


def driver_cost(moments: Sequence[Look], tracks: int) -> DriverCost | None:
    """The least-squares fit to what the driver used from one line of progress to the next, the start left out.

    None if there are too few lines.

    Args:
        moments: looks at the job's lines of progress, at different rates.
        tracks: tracks of the catalog.
    """
    running = [moment for moment in moments if moment.tracks >= _STARTED * tracks]
    steps = [
        (later.seconds - one.seconds, later.tracks - one.tracks, later.cpu_seconds[DRIVER] - one.cpu_seconds[DRIVER])
        for one, later in pairwise(running)
    ]
    if len(steps) < _STEPS:
        return None
    seconds_and_tracks, used = np.array([step[:2] for step in steps]), np.array([step[2] for step in steps])
    second, track = 1000 * np.linalg.lstsq(seconds_and_tracks, used, rcond=None)[0]
    return DriverCost(float(second), float(track))


def tenths(moments: Sequence[Look], looks: Sequence[Look], before: int, tracks: int) -> list[Tenth | None]:
    """The tenths of a catalog that a job did from their beginning to their end; None for the others.

    Args:
        moments: looks at the job's lines of progress.
        looks: all looks at the job.
        before: tracks that were staged before the job began.
        tracks: tracks of the catalog.
    """
    done = [before + moment.tracks for moment in moments]
    fitting = [number for number, count in enumerate(done) if count - before >= _STARTED * tracks]
    if not fitting:
        return [None] * TENTHS
    moments, done = moments[fitting[0] :], done[fitting[0] :]
    found: list[Tenth | None] = []
    for number in range(TENTHS):
        first, last = number * tracks / TENTHS, (number + 1) * tracks / TENTHS
        # The first tenth begins when the workers have started.
        first = max(first, done[0]) if number == 0 and not before else first
        found.append(_tenth(moments, looks, done, first, last) if done[0] <= first and last <= done[-1] else None)
    return found


def _tenth(moments: Sequence[Look], looks: Sequence[Look], done: Sequence[int], first: float, last: float) -> Tenth:
    def taken(value: Callable[[Look], float]) -> float:
        begun, ended = (_at(moments, done, where, value) for where in (first, last))
        return ended - begun

    from_seconds, to_seconds = (_at(moments, done, where, lambda each: each.seconds) for where in (first, last))
    seen = [look for look in looks if from_seconds <= look.seconds <= to_seconds] or [moments[-1]]
    kinds = sorted({kind for look in seen for kind in look.own_mb})
    own = {kind: statistics.median(look.own_mb[kind] for look in seen if kind in look.own_mb) for kind in kinds}
    each = 1000 / (last - first)
    return Tenth(
        tracks_per_second=(last - first) / taken(lambda look: look.seconds),
        cpu_ms=each * taken(lambda look: sum(look.cpu_seconds.values())),
        driver_ms=each * taken(lambda look: look.cpu_seconds[DRIVER]),
        own_mb=own,
        store_mb=seen[-1].store_mb,
        temporary_files=max(look.kept["temporary"].files for look in seen),
        session_files=max(look.kept["session"].files for look in seen),
        session_bytes=max(look.kept["session"].size_bytes for look in seen),
        run_files=max(look.kept["run"].files for look in seen),
        run_bytes=max(look.kept["run"].size_bytes for look in seen),
    )


def _at(moments: Sequence[Look], done: Sequence[int], tracks: float, value: Callable[[Look], float]) -> float:
    """A value when so many tracks were done, on the line between the two moments around it."""
    after = max(1, bisect.bisect_left(done, tracks))
    if after >= len(done):
        return value(moments[-1])
    share = (tracks - done[after - 1]) / max(1, done[after] - done[after - 1])
    return value(moments[after - 1]) + share * (value(moments[after]) - value(moments[after - 1]))
