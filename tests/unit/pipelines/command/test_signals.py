"""The first signal ends a job, however close the second one is."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from pipelines.command.signals import Interrupts


class Crowded(list[int]):
    """A list in which another signal arrives just before or just after the first one is recorded."""

    def __init__(self, arrive: Callable[[], None], before: bool) -> None:
        super().__init__()
        self._arrive: Callable[[], None] | None = arrive
        self._before = before

    def append(self, number: int) -> None:
        arrive, self._arrive = self._arrive, None
        if arrive is not None and self._before:
            arrive()
        super().append(number)
        if arrive is not None and not self._before:
            arrive()


@pytest.mark.parametrize("before", [True, False])
def test_of_two_signals_at_once_one_interrupts(before: bool) -> None:
    interrupts = Interrupts()
    interrupts.received = Crowded(lambda: interrupts(signal.SIGINT, None), before)
    with pytest.raises(KeyboardInterrupt), interrupts.raising():
        interrupts(signal.SIGTERM, None)
    # Later ones are recorded.
    recorded = len(interrupts.received)
    interrupts._running = True
    interrupts(signal.SIGTERM, None)
    assert len(interrupts.received) == recorded + 1
