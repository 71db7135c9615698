"""The tracks of a training that gave no features, in one actor to which the stages send them.

The actor's file imports neither pandas nor PyTorch, which take seconds of CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.session.driver_actor import DriverActor


class _ErrorKinds:
    """Kinds of error by track id, held by an actor."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}

    def add(self, kinds: Mapping[str, str]) -> None:
        self._kinds.update(kinds)

    def read(self) -> dict[str, str]:
        return self._kinds


class FailedTracks:
    """Tracks of a training that gave no features, and why. A track counts once even if it fails in several epochs.

    You can pickle it; all copies write to the same list.
    """

    def __init__(self, actor: DriverActor[_ErrorKinds]) -> None:
        self._actor = actor

    @classmethod
    def start(cls) -> FailedTracks:
        """Start an empty list."""
        return cls(DriverActor.start(_ErrorKinds))

    def add(self, kinds: Mapping[str, str]) -> None:
        """Add kinds of error by track id, without waiting for the list."""
        self._actor.tell(_ErrorKinds.add, kinds)

    def read(self) -> dict[str, str]:
        """Return all kinds of error by track id."""
        return self._actor.ask(_ErrorKinds.read)
