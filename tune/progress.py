"""Show a running search on stderr: a live table on a terminal, or else a plain line for each trial that ends."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster.session.progress import LINE_EVERY_SECONDS
from mgc.recipes.space import Space, shown
from mgc.units import format_count
from tune.spaces import to_point

REDRAW_SECONDS: Final = 0.5
ROWS: Final = 20
"""Trials that a terminal shows: running ones first, then the best."""

_WORDS: Final = {"PENDING": "waits", "RUNNING": "runs", "PAUSED": "paused", "TERMINATED": "ended", "ERROR": "failed"}


@dataclass(frozen=True)
class Row:
    """One displayed trial.

    Attributes:
        number: number of the trial from 1.
        status: Ray's word for its state.
        epochs: number of finished epochs.
        seconds: time spent training.
        score: score of the trial; None before the first epoch.
        point: value of each dimension, as text.
    """

    number: int
    status: str
    epochs: int
    seconds: float
    score: float | None
    point: str


class Board:
    """Shows a search on stderr.

    Args:
        metric: readable name of the score.
        score: name of the score in the reports of trials.
        falls: whether a lower score is better.
        total: number of trials, if known.

    Attributes:
        trials: Tune's own trials, as of the last update.
    """

    def __init__(self, metric: str, score: str, falls: bool, total: int | None) -> None:
        self.trials: list[Trial] = []
        self.score = score
        self._metric = metric
        self._falls = falls
        self._total = total
        self._began = self._said = time.monotonic()
        self._drawn = 0.0
        self._ended: set[int] = set()
        self._rows: Sequence[Row] = ()
        self._live: Live | None = None
        if sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), auto_refresh=False, vertical_overflow="ellipsis")
            self._live.start()

    def update(self, rows: Sequence[Row], last: bool = False) -> None:
        """Show the search as it is now."""
        self._rows = rows
        now = time.monotonic()
        if self._live is not None:
            if now - self._drawn >= REDRAW_SECONDS or last:
                self._drawn = now
                self._live.update(self._table(), refresh=True)
            return
        for row in rows:
            if row.status in ("TERMINATED", "ERROR") and row.number not in self._ended:
                self._ended.add(row.number)
                self._said = now
                print(f"trial {self._of(row.number)} {self._line(row)}", file=sys.stderr, flush=True)
        if now - self._said >= 3 * LINE_EVERY_SECONDS:
            self._said = now
            print(f"search: {self._summary()}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Draw the last state and stop."""
        self.update(self._rows, last=True)
        if self._live is not None:
            self._live.stop()

    def _of(self, number: int) -> str:
        return f"{number}/{self._total}" if self._total else str(number)

    def _line(self, row: Row) -> str:
        score = "no score" if row.score is None else f"{self._metric} {row.score:.3f}"
        return f"{_WORDS[row.status]}: {score}, {format_count(row.epochs, 'epoch')}, {row.seconds:.0f} s ({row.point})"

    def _worth(self, row: Row) -> float:
        if row.score is None:
            return float("inf")
        return row.score if self._falls else -row.score

    def _summary(self) -> str:
        counts = {word: sum(_WORDS[row.status] == word for row in self._rows) for word in _WORDS.values()}
        counted = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        best = min((row for row in self._rows if row.score is not None), key=self._worth, default=None)
        found = f"; best {self._metric} {best.score:.3f} (trial {best.number})" if best else ""
        of = f" of {self._total}" if self._total else ""
        return f"{format_count(len(self._rows), 'trial')}{of}: {counted}{found}; {time.monotonic() - self._began:.0f} s"

    def _table(self) -> Group:
        # The table is as wide as the terminal. A wider one would hide the first column.
        table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
        for name in ("trial", "", "epochs", "seconds", self._metric):
            # These columns keep their width; the point gets the rest.
            table.add_column(name, justify="left" if not name else "right", no_wrap=True, min_width=len(name) or 6)
        table.add_column("point", no_wrap=True, overflow="ellipsis", ratio=1)
        ordered = sorted(self._rows, key=lambda row: (row.status != "RUNNING", self._worth(row), row.number))
        for row in ordered[:ROWS]:
            score = "" if row.score is None else f"{row.score:.3f}"
            table.add_row(
                str(row.number), _WORDS[row.status], str(row.epochs), f"{row.seconds:.0f}", score, Text(row.point)
            )
        return Group(table, Text(self._summary(), style="dim"))


_BOARD: ContextVar[Board | None] = ContextVar("board", default=None)


@contextlib.contextmanager
def watch_search(metric: str, score: str, falls: bool, total: int | None) -> Iterator[list[Trial]]:
    """Show the search that runs in the body.

    Args:
        metric: readable name of the score.
        score: name of the score in the reports of trials.
        falls: whether a lower score is better.
        total: number of trials, if known.

    Yields:
        A list that holds Tune's trials when the search is over.
    """
    board = Board(metric, score, falls, total)
    token = _BOARD.set(board)
    try:
        yield board.trials
    finally:
        _BOARD.reset(token)
        board.close()


class WatchTrials(Callback):
    """Passes the state of a search to the board of `watch_search`. It holds no board itself, because Ray saves it.

    Args:
        space: searched space.
    """

    def __init__(self, space: Space) -> None:
        self._space = space

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Show the trials after each of Tune's steps."""
        self._show(trials)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Show the trials at the end."""
        self._show(trials)

    def _show(self, trials: list[Trial]) -> None:
        board = _BOARD.get()
        if board is None:
            return
        board.trials[:] = trials
        board.update([self._row(number, trial, board.score) for number, trial in enumerate(trials, 1)])

    def _row(self, number: int, trial: Trial, score: str) -> Row:
        last = trial.last_result or {}
        return Row(
            number=number,
            status=trial.status,
            epochs=int(last.get("epoch", 0)),
            seconds=float(last.get("time_total_s", 0.0)),
            score=last.get(score),
            point=shown(to_point(self._space, trial.config)),
        )
