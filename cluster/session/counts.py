"""Counters of a job, in one actor to which tasks on any node send their counts.

A task does not wait for its counts to arrive, so counting never slows a stage. Every job starts this actor, so this
file imports neither pandas nor Ray Data, which take seconds of CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from cluster.session.driver_actor import DriverActor

NOTHING: Final[Mapping[str, int]] = MappingProxyType({})

PATIENCE_SECONDS: Final = 5.0
"""Longest wait for the counters."""


class ProgressSink(Protocol):
    """Counters for the workers of a job."""

    def add(self, counts: Mapping[str, int], figures: Mapping[str, float] | None = None) -> None:
        """Add to counters, and set figures such as a loss."""

    def set_counts(self, counts: Mapping[str, int]) -> None:
        """Set counters to the present state of the work."""


class Counts:
    """Named counters and figures of a job."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._figures: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._began: float | None = None

    def add(
        self,
        counts: Mapping[str, int],
        figures: Mapping[str, float] | None = None,
        sums: Mapping[str, float] | None = None,
        began: float | None = None,
    ) -> None:
        """Add to counters and to sums that are not shown, and set figures such as a loss.

        Args:
            counts: numbers to add to the counters.
            figures: figures to set.
            sums: numbers to add to the sums.
            began: start of the counted work, in seconds since 1970.
        """
        self._counts.update(counts)
        self._figures.update(figures or {})
        for name, value in (sums or {}).items():
            self._sums[name] = self._sums.get(name, 0) + value
        if began is not None:
            self._began = began if self._began is None else min(began, self._began)

    def set_counts(self, counts: Mapping[str, int]) -> None:
        """Set counters to the present state of the work: lower after a kill, higher after a resume."""
        for name, count in counts.items():
            self._before[name] += count - self._counts[name]
            self._counts[name] = count

    def read(self) -> tuple[dict[str, int], dict[str, float], dict[str, int]]:
        """Return counters, figures, and how much of each counter was done before this run."""
        return dict(self._counts), dict(self._figures), dict(self._before)

    def sums(self) -> tuple[dict[str, float], float | None]:
        """Return all counters and sums, and the start time of the first work."""
        return {**self._sums, **self._counts}, self._began


class ProgressHandle:
    """The counters of a job. You can pickle it; all copies share the same counters."""

    def __init__(self, actor: DriverActor[Counts]) -> None:
        self._actor = actor

    @classmethod
    def start(cls) -> ProgressHandle:
        """Start counters at zero."""
        return cls(DriverActor.start(Counts))

    def add(
        self,
        counts: Mapping[str, int],
        figures: Mapping[str, float] | None = None,
        sums: Mapping[str, float] | None = None,
        began: float | None = None,
    ) -> None:
        """Count without waiting. See `Counts.add`."""
        self._actor.tell(Counts.add, counts, figures, sums, began)

    def set_counts(self, counts: Mapping[str, int]) -> None:
        """Set counters without waiting. See `Counts.set_counts`."""
        self._actor.tell(Counts.set_counts, counts)

    def read(self) -> tuple[dict[str, int], dict[str, float], dict[str, int]]:
        """Return counters, figures, and how much of each counter was done before this run.

        Raises:
            RayError: there is no answer within five seconds.
        """
        return self._actor.ask_within(PATIENCE_SECONDS, Counts.read)

    def sums(self) -> tuple[dict[str, float], float | None]:
        """Return all counters and sums, and the start time of the first work, in seconds since 1970.

        Raises:
            RayError: the counters are gone.
        """
        return self._actor.ask(Counts.sums)
