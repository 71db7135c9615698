"""A worker that falls once, and only once, in the middle of a training."""

from __future__ import annotations

from pathlib import Path


class Tripwire:
    """Stands where a training's progress handle stands, and raises in a chosen step of a chosen epoch.

    Args:
        flag: a file that is there once it has been tripped.
        epochs: that are to be over by then.
    """

    def __init__(self, flag: Path, epochs: int) -> None:
        self._flag = flag
        self._epochs = epochs
        self._done = 0

    @property
    def add(self) -> Tripwire:
        """As an actor's method."""
        return self

    def remote(self, counts: dict[str, int], figures: dict[str, float]) -> None:
        """Count, or fall."""
        self._done += counts.get("epochs", 0)
        if self._done == self._epochs and "clips" in counts and not self._flag.exists():
            self._flag.touch()
            raise RuntimeError("tripped")
