"""Hold back the signals that end a job while an exception would leave a process behind."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def hold_back_signals() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP while the body runs, and deliver the first of them afterwards.

    Use it around code that starts and records a process, or ends processes. It does not affect processes that the body
    starts. Off the main thread, where Python delivers no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # What is ignored, as SIGHUP under `nohup`, is not delivered afterwards either.
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, hold)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])
