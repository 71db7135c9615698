"""Progress as somebody sees it who has no terminal, and on one."""

from __future__ import annotations

import io
import sys

import pytest

from cluster.session import progress
from cluster.session.counts import Counts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, set by the test."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_line_now_and_then_with_the_rate_of_late(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """The workers take 20 s to start: what is left is not estimated by them; the last line is of the whole."""
    with progress.show_progress("training", "clips", 400) as show:
        for second in range(1, 61):
            clock[0] = 100.0 + second
            done = max(0, 5 * (second - 20))
            figures = {"loss": 1.25, "validation macro-F1": 0.5} if second > 40 else {}
            show({"clips": done, "epochs": second // 40}, figures)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 0/400 clips (0.0/s)",
        "training: 5/400 clips (5.0/s)",
        "training: 55/400 clips (5.0/s)",
        "training: 105/400 clips (5.0/s, 1 epoch, loss 1.250, validation macro-F1 0.500)",
        "training: 155/400 clips (5.0/s, 1 epoch, loss 1.250, validation macro-F1 0.500)",
        "training: 200/400 clips (3.3/s, 1 epoch, loss 1.250, validation macro-F1 0.500)",
    ]


def test_a_stand_still_shows(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.show_progress("training", "clips", None) as show:
        for second in range(1, 200):
            clock[0] = 100.0 + second
            show({"clips": min(second, 60)}, {})
        rate = progress._Rate(100.0)
        for second in range(1, 200):
            clock[0] = 100.0 + second
            seen = rate(min(second, 60))
    assert seen == 0.0
    assert capsys.readouterr().err.splitlines()[0] == "training: 10 clips (1.0/s)"


def test_what_was_done_before_shows_and_has_no_rate(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """A training goes on from its checkpoint; later a worker is killed, and some of its clips come again."""
    counts = Counts()
    counts.set_counts({"clips": 200, "epochs": 2})
    with progress.show_progress("training", "clips", 400) as show:
        for second in range(1, 41):
            clock[0] = 100.0 + second
            if second == 31:
                counts.set_counts({"clips": 250, "epochs": 2})
            counts.add({"clips": 5})
            show(*counts.read())
    assert capsys.readouterr().err.splitlines() == [
        "training: 250/400 clips (5.0/s, 2 epochs)",
        "training: 300/400 clips (5.0/s, 2 epochs)",
        "training: 350/400 clips (5.0/s, 2 epochs)",
        "training: 300/400 clips (5.0/s, 2 epochs)",
    ]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    with progress.show_progress("training", "clips", 400) as show:
        show({"clips": 100, "epochs": 2}, {"loss": 1.25, "validation accuracy": 0.5}, {"clips": 90})
    assert "100/400" in screen.getvalue()
    assert "2 epochs, loss 1.250, validation accuracy 0.500" in screen.getvalue()
