"""SIGINT, SIGTERM and SIGHUP of a job. Imports only the standard library, so it works from the first moment on."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final, Self

Handler = signal.Handlers | Callable[[int, FrameType | None], object] | int | None

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The signals that interrupt a job. The first one raises KeyboardInterrupt while the job runs.

    Later ones are only recorded, because an exception inside the clean-up would leave processes behind. A signal that
    arrives before the job runs is recorded and raises when the job begins; Python may still be importing it. A first
    signal that arrives after the job has ended is also only recorded, because the outcome is final.

    Attributes:
        received: the signals that arrived.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._running = False
        self._previous: dict[signal.Signals, Handler] = {}

    @classmethod
    def of_process(cls) -> Self:
        """Return the handler of this process. Installs one if there is none yet."""
        found = signal.getsignal(signal.SIGINT)
        if isinstance(found, cls):
            return found
        interrupts = cls()
        interrupts.install()
        return interrupts

    @property
    def handled(self) -> frozenset[signal.Signals]:
        """The signals that are handled."""
        return frozenset(self._previous)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        # Python may handle another signal between these lines. Just one of the two must see itself as the first.
        first = not self.received
        self.received.append(number)
        if self._running and first:
            raise KeyboardInterrupt

    def install(self) -> None:
        """Handle signals from now on."""
        for number in SIGNALS:
            # `nohup` ignores SIGHUP for the job, and so it stays.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self)

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Let the first signal raise while the body runs, also if it has arrived already.

        Raises:
            KeyboardInterrupt: a signal arrived.
        """
        self._running = True
        try:
            if self.received:
                raise KeyboardInterrupt
            yield
        finally:
            self._running = False

    def restore(self) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def close(self) -> None:
        """Let no signal change the exit code from now on, if one has ended the job; put the handlers back otherwise.

        Python forgets its own handlers while it shuts down, and the default one would kill this process.
        """
        if not self.received:
            self.restore()
            return
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)
