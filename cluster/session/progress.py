"""Progress of long work: a bar on a terminal, a plain line every ten seconds elsewhere; both on stderr.

A thread of the driver reads the counters of the job.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from ray.exceptions import RayError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cluster.session.counts import NOTHING, PATIENCE_SECONDS, ProgressHandle
from cluster.session.stalls import StallWatch

LINE_EVERY_SECONDS: Final = 10.0

RECENT_SECONDS: Final = 30.0
"""Window of the rate. Older work, such as the start of the workers, does not predict the rest."""

_READ_EVERY_SECONDS: Final = 0.5


class Draw(Protocol):
    """Redraws a bar, or prints a line when one is due."""

    def __call__(
        self, counts: Mapping[str, int], figures: Mapping[str, float], already_done: Mapping[str, int] = NOTHING
    ) -> None:
        """Show counters and figures; `already_done` is how much of each counter was done before this run."""


@contextlib.contextmanager
def watch_progress(title: str, unit: str, total: int | None) -> Iterator[ProgressHandle]:
    """Show progress while the body runs.

    Args:
        title: what is going on.
        unit: counter that moves the bar, for example "tracks".
        total: its end, if known.

    Yields:
        The counters, to hand to stages.

    Raises:
        ResourceError: nothing moves, because workers are killed again and again.
    """
    progress, watch = ProgressHandle.start(), StallWatch()
    stop = threading.Event()

    def follow(draw: Draw) -> None:
        while not stop.wait(_READ_EVERY_SECONDS):
            counts = None
            with contextlib.suppress(RayError):
                counts, figures, already_done = progress.read()
                draw(counts, figures, already_done)
            watch.look(counts)

    with show_progress(title, unit, total) as draw, watch.raising():
        thread = threading.Thread(target=follow, args=(draw,), daemon=True)
        thread.start()
        try:
            yield progress
        finally:
            stop.set()
            thread.join(timeout=2 * PATIENCE_SECONDS)
            with contextlib.suppress(RayError):
                draw(*progress.read())


def show_progress(title: str, unit: str, total: int | None) -> contextlib.AbstractContextManager[Draw]:
    """Show a progress bar on a terminal, or plain lines elsewhere. Yields `draw(counts, figures, already_done)`.

    Args:
        title: what is going on.
        unit: counter that moves the bar, for example "tracks".
        total: its end, if known.
    """
    return _show_bar(title, unit, total) if sys.stderr.isatty() else _show_lines(title, unit, total)


@contextlib.contextmanager
def _show_bar(title: str, unit: str, total: int | None) -> Iterator[Draw]:
    rate = _Rate(time.monotonic())
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit + " {task.fields[facts]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task(title, total=total, facts="")
    skipped = 0

    def draw(
        counts: Mapping[str, int], figures: Mapping[str, float], already_done: Mapping[str, int] = NOTHING
    ) -> None:
        nonlocal skipped
        done, before = counts.get(unit, 0), already_done.get(unit, 0)
        if before != skipped:
            # Work done before this run does not predict how long the rest takes.
            skipped = before
            bar.reset(task, completed=done)
        bar.update(task, completed=done, facts=_facts(counts, figures, unit, rate(done - before)))

    with bar:
        yield draw


@contextlib.contextmanager
def _show_lines(title: str, unit: str, total: int | None) -> Iterator[Draw]:
    lines = _Lines(title, unit, total)
    try:
        yield lines
    finally:
        lines.finish()


class _Lines:
    """Prints a line every ten seconds while the work moves, and one at the end.

    Args:
        title: what is going on.
        unit: counter that the line begins with.
        total: its end, if known.
    """

    def __init__(self, title: str, unit: str, total: int | None) -> None:
        self._title, self._unit, self._of = title, unit, f"/{total}" if total else ""
        self._started = self._printed_at = time.monotonic()
        self._printed = -1
        self._rate = _Rate(self._started)
        self._newest: tuple[Mapping[str, int], Mapping[str, float], Mapping[str, int]] = ({}, {}, NOTHING)

    def __call__(
        self, counts: Mapping[str, int], figures: Mapping[str, float], already_done: Mapping[str, int] = NOTHING
    ) -> None:
        """Print a line if one is due."""
        self._newest = (counts, figures, already_done)
        recent = self._rate(counts.get(self._unit, 0) - already_done.get(self._unit, 0))
        if time.monotonic() - self._printed_at >= LINE_EVERY_SECONDS:
            self._print(recent)

    def finish(self) -> None:
        """Print the last line, with the rate of the whole run."""
        counts, _, before = self._newest
        done = counts.get(self._unit, 0) - before.get(self._unit, 0)
        self._print(done / max(time.monotonic() - self._started, 1e-9))

    def _print(self, rate: float) -> None:
        counts, figures, _ = self._newest
        done = counts.get(self._unit, 0)
        if done == self._printed:
            return
        self._printed, self._printed_at = done, time.monotonic()
        facts = _facts(counts, figures, self._unit, rate)
        print(f"{self._title}: {done}{self._of} {self._unit} {facts}", file=sys.stderr, flush=True)


class _Rate:
    """Work per second over the last `RECENT_SECONDS`.

    Args:
        started: time of the start, on the monotonic clock.
    """

    def __init__(self, started: float) -> None:
        self._seen: deque[tuple[float, int]] = deque([(started, 0)])

    def __call__(self, done: int) -> float:
        """Return the current rate, given the work done so far."""
        now = time.monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > RECENT_SECONDS:
            self._seen.popleft()
        # The time before the first work was done is the start of the workers.
        while len(self._seen) > 2 and not self._seen[1][1]:
            self._seen.popleft()
        then, before = self._seen[0]
        return (done - before) / max(now - then, 1e-9)


def _facts(counts: Mapping[str, int], figures: Mapping[str, float], unit: str, rate: float) -> str:
    parts = [f"{rate:.1f}/s"]
    parts += [
        f"{count} {name.removesuffix('s') if count == 1 else name}"
        for name, count in sorted(counts.items())
        if name != unit and count
    ]
    parts += [f"{name} {value:.3f}" for name, value in figures.items()]
    return "(" + ", ".join(parts) + ")"
