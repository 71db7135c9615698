"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere; both on stderr.

Tasks on any node count into one actor; a thread of the driver reads it. Counting is fire and forget: it never slows a
stage.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 10.0

RECENT_SECONDS: Final = 30.0
"""Over so long the rate is taken: what came before, the start of the workers too, says nothing about what is left."""


NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class Counts:
    """Named counters; as a Ray actor, those of a whole job."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._figures: dict[str, float] = {}
        self._sums: Counter[str] = Counter()
        self._began: float | None = None

    def add(
        self,
        counts: dict[str, int],
        figures: dict[str, float] | None = None,
        sums: dict[str, float] | None = None,
        began: float | None = None,
    ) -> None:
        """Add to counters and to sums that are not shown, and set figures such as a loss.

        `began`: when the work that is counted began, in seconds since the epoch.
        """
        self._counts.update(counts)
        self._figures.update(figures or {})
        self._sums.update(sums or {})
        if began is not None:
            self._began = began if self._began is None else min(began, self._began)

    def stand(self, counts: dict[str, int]) -> None:
        """Where the work stands, whoever did it: after a kill less than was counted, after a resume more."""
        for name, count in counts.items():
            self._before[name] += count - self._counts[name]
            self._counts[name] = count

    def read(self) -> tuple[dict[str, int], dict[str, float], dict[str, int]]:
        """All counters and figures, and how much of the counters is no work that was counted here."""
        return dict(self._counts), dict(self._figures), dict(self._before)

    def sums(self) -> tuple[dict[str, float], float | None]:
        """All counters and sums, and when the first of the work began."""
        return {**self._sums, **self._counts}, self._began


@contextlib.contextmanager
def watched(title: str, unit: str, total: int | None) -> Iterator[Any]:
    """Show progress while the body runs.

    Args:
        title: what is going on.
        unit: the counter that moves the bar, for example "tracks".
        total: its end, if known.

    Yields:
        A handle to pass to stages; `handle.add.remote({...})` counts.
    """
    # With the driver: a node that dies must not take the counts of the others with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    counts: Any = ray.remote(Counts)
    handle = counts.options(num_cpus=0, scheduling_strategy=here).remote()
    stop = threading.Event()

    def follow(show: Any) -> None:
        while not stop.wait(0.5):
            with contextlib.suppress(ray.exceptions.RayError):
                show(*ray.get(handle.read.remote(), timeout=5))

    with shown(title, unit, total) as show:
        thread = threading.Thread(target=follow, args=(show,), daemon=True)
        thread.start()
        try:
            yield handle
        finally:
            stop.set()
            thread.join(timeout=10)
            with contextlib.suppress(ray.exceptions.RayError):
                show(*ray.get(handle.read.remote(), timeout=5))


@contextlib.contextmanager
def shown(title: str, unit: str, total: int | None) -> Iterator[Any]:
    """A bar or lines; yields a function of counts, figures and what of the counts is no work of now, that redraws."""
    started = time.monotonic()
    rate = _Rate(started)
    if sys.stderr.isatty():
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
        skipped = [0]

        def draw(counts: dict[str, int], figures: dict[str, float], before: Mapping[str, int] = NOTHING) -> None:
            done, not_ours = counts.get(unit, 0), before.get(unit, 0)
            if not_ours != skipped[0]:
                # What was done before says nothing about how long the rest takes.
                skipped[0] = not_ours
                bar.reset(task, completed=done)
            bar.update(task, completed=done, facts=_facts(counts, figures, unit, rate(done - not_ours)))

        with bar:
            yield draw
        return

    last = [started, -1]

    def line(counts: dict[str, int], figures: dict[str, float], before: Mapping[str, int], final: bool = False) -> None:
        now, done = time.monotonic(), counts.get(unit, 0)
        worked = done - before.get(unit, 0)
        recent = rate(worked)
        if (now - last[0] >= LINE_EVERY_SECONDS or final) and done != last[1]:
            last[:] = [now, done]
            of = f"/{total}" if total else ""
            shown_rate = worked / max(now - started, 1e-9) if final else recent
            print(
                f"{title}: {done}{of} {unit} {_facts(counts, figures, unit, shown_rate)}", file=sys.stderr, flush=True
            )

    newest: list[tuple[dict[str, int], dict[str, float], Mapping[str, int]]] = [({}, {}, NOTHING)]

    def remember(counts: dict[str, int], figures: dict[str, float], before: Mapping[str, int] = NOTHING) -> None:
        newest[0] = (counts, figures, before)
        line(counts, figures, before)

    try:
        yield remember
    finally:
        line(*newest[0], final=True)


class _Rate:
    """How much is done a second of late.

    Args:
        started: when, on the monotonic clock.
    """

    def __init__(self, started: float) -> None:
        self._seen: deque[tuple[float, int]] = deque([(started, 0)])

    def __call__(self, done: int) -> float:
        """The rate now.

        Args:
            done: so far.
        """
        now = time.monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > RECENT_SECONDS:
            self._seen.popleft()
        # What came before the first that was done is the start of the workers.
        while len(self._seen) > 2 and not self._seen[1][1]:
            self._seen.popleft()
        then, before = self._seen[0]
        return (done - before) / max(now - then, 1e-9)


def _facts(counts: dict[str, int], figures: dict[str, float], unit: str, rate: float) -> str:
    parts = [f"{rate:.1f}/s"]
    parts += [
        f"{count} {name.removesuffix('s') if count == 1 else name}"
        for name, count in sorted(counts.items())
        if name != unit and count
    ]
    parts += [f"{name} {value:.3f}" for name, value in figures.items()]
    return "(" + ", ".join(parts) + ")"
