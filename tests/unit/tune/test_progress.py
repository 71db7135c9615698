"""What a person sees of a search while it runs."""

from __future__ import annotations

import io
import re
import sys

import pytest

from tune.progress import Board, Row

POINT = "learning_rate=0.0012 weight_decay=0.001 channels=[16,32,64] dropout=0.31 sampling=square_root loss=focal"


class Terminal(io.StringIO):
    """Takes what is drawn."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_terminal_shows_each_trial_with_its_number(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    board = Board("macro-F1", "validation_macro_f1", False, 24)
    rows = [Row(7, "TERMINATED", 3, 12.0, 0.41, POINT), Row(8, "ERROR", 0, 1.0, None, POINT)]
    board.update([*rows, Row(11, "RUNNING", 2, 9.0, 0.3, POINT)])
    board.close()
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    table = [line.rstrip() for line in drawn.replace("\r", "\n").splitlines()]
    # Those that run, then the best; a failed one has no score.
    seen = [line.split()[:2] for line in table if re.match(r" *\d+ +(runs|ended|failed) ", line)][-3:]
    assert seen == [["11", "runs"], ["7", "ended"], ["8", "failed"]]
    assert any(re.fullmatch("trial +epochs +seconds +macro-F1 +point", line) for line in table)
    assert all(len(line) <= columns for line in table)
