"""The current epoch of a training, for the stages of its stream.

Ray Data runs the same plan again in each epoch. A stage that depends on the epoch reads its number here.
"""

from __future__ import annotations

from cluster.session.driver_actor import DriverActor


class _Epoch:
    """One number, held by an actor."""

    def __init__(self) -> None:
        self._number = 0

    def begin(self, number: int) -> None:
        self._number = number

    def current(self) -> int:
        return self._number


class EpochCounter:
    """The epoch of one training, counted from 0. You can pickle it; all copies see the same number.

    The first worker calls `begin` before it asks for its batches. Ray's streaming split starts a pass when every worker
    has asked. So all tasks of a pass see the same number, and no task of the previous pass still needs the old one.
    After a resume the number is that of the repeated epoch.
    """

    def __init__(self, actor: DriverActor[_Epoch]) -> None:
        self._actor = actor

    @classmethod
    def start(cls) -> EpochCounter:
        """Start a counter at epoch 0."""
        return cls(DriverActor.start(_Epoch))

    def begin(self, number: int) -> None:
        """Set the epoch that the next pass over the stream belongs to, and wait until it is set."""
        self._actor.ask(_Epoch.begin, number)

    def current(self) -> int:
        """Return the epoch that began last."""
        return self._actor.ask(_Epoch.current)
