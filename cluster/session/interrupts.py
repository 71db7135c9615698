"""SIGINT and SIGTERM at moments when an exception would leave a process behind."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def hold_back_signals() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while the body runs, and deliver the first of them afterwards.

    Use it where a process is started and noted, and where processes are ended. Processes that the body starts are not
    affected. Off the main thread, where Python delivers no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, hold)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])
