"""A worker that falls once, and only once, in the middle of a training."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path


class Tripwire:
    """Stands in for a training's counters, and raises in a chosen step of a chosen epoch.

    Args:
        flag: a file that is there once it has been tripped.
        epochs: that are to be over by then, on the first worker, which alone counts them.
        steps: of the next one that are to be over too.
        killed: the worker's process is killed, in place of an error.
    """

    def __init__(self, flag: Path, epochs: int, steps: int = 0, killed: bool = False) -> None:
        self._flag = flag
        self._epochs = epochs
        self._steps = steps
        self._killed = killed
        self._done = 0
        self._taken = 0

    def set_counts(self, counts: Mapping[str, int]) -> None:
        """Do nothing: no step is taken here."""

    def add(self, counts: Mapping[str, int], figures: Mapping[str, float] | None = None) -> None:
        """Count, or fall."""
        if figures is None:
            return
        self._done += counts.get("epochs", 0)
        if self._done != self._epochs or "clips" not in counts or self._flag.exists():
            return
        self._taken += 1
        if self._taken > self._steps:
            self._flag.touch()
            if self._killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("tripped")
