"""Signals that are held back while a process is started or ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from cluster.session.interrupts import hold_back_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_delivered_after_the_body(number: signal.Signals) -> None:
    came: list[int] = []
    before = signal.signal(number, lambda number, frame: came.append(number))
    try:
        with hold_back_signals():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            assert came == []
        assert came == [number]
        with hold_back_signals():
            pass
        assert came == [number]
    finally:
        signal.signal(number, before)


def test_the_error_of_the_body_comes_first() -> None:
    def fail() -> None:
        with hold_back_signals():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_the_body_starts_hears_signals() -> None:
    with hold_back_signals():
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == -signal.SIGTERM


def test_off_the_main_thread_it_does_nothing() -> None:
    seen: list[object] = []

    def look() -> None:
        with hold_back_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
