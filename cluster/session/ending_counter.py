"""A counter for Prometheus whose series ends with its process, also on a head that stays."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ray.util import metrics

_PROCESS: Final = "process"
_NO_TAGS: Final[Mapping[str, str]] = MappingProxyType({})


class EndingCounter:
    """Counts of one process.

    A node of Ray shows a counter of Ray's until the node ends, long after the job that counted. It drops a gauge two
    reports after the last process that sets it has ended. So this is a gauge that only grows. A node cannot add up
    gauges, so each process has a series of its own, with the label `process`.
    """

    def __init__(self, name: str, description: str, tags: Sequence[str] = ()) -> None:
        """Register the counter.

        Args:
            name: its name; Prometheus sees `ray_NAME_total`.
            description: its help.
            tags: names of its other labels.
        """
        self._gauge = metrics.Gauge(f"{name}_total", description, (*tags, _PROCESS))
        self._counts: defaultdict[tuple[tuple[str, str], ...], float] = defaultdict(float)
        if not tags:
            self.inc(0)

    def inc(self, value: float, tags: Mapping[str, str] = _NO_TAGS) -> None:
        """Add a number, at least 0, to the count with these labels."""
        key = tuple(sorted(tags.items()))
        self._counts[key] += value
        self._gauge.set(self._counts[key], {**tags, _PROCESS: str(os.getpid())})
