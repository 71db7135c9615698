"""Tell a training's journal what happens, from the loop of a worker or from the driver.

The loop calls a `JournalWriter`, which passes on only what the first worker does, since all workers take their steps
together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Final

import torch
from ray.exceptions import RayError

from cluster.session.driver_actor import DriverActor
from cluster.training.journal import Journal, JournalPlan, Point
from mgc.experiment import Experiment
from mgc.training.course import Row
from mgc.training.figures import EpochFigures

STEPS_NOTED: Final = 10
"""Record a point every N steps."""

SECONDS_NOTED: Final = 10.0
"""Record a point at least this often, in seconds."""

_NO_SETTINGS: Final = ("format_version", "deviations")


class JournalWriter:
    """Tells a journal what the training loop does.

    Args:
        journal: journal on the driver's node or in this process; None records nothing.
        rank: number of this worker; only the first one writes to the journal.
        workers: number of workers that train together.
    """

    def __init__(self, journal: Journal | JournalHandle | None, rank: int = 0, workers: int = 1) -> None:
        self._journal = None if rank else journal
        self._workers = workers
        self._begun = False
        self._first = self._expected = self._done = 0
        self._since = self._clips = self._epoch_clips = 0
        self._loss_sum = 0.0
        self._from = self._started = self._last = 0.0

    def begin(self, first: int, expected: int, done: int = 0) -> None:
        """Begin an epoch.

        Args:
            first: expected steps of all earlier epochs. With it, a resumed training counts like an uninterrupted one.
            expected: expected steps of this epoch.
            done: steps of this epoch that were done before a resume.
        """
        self._first, self._expected, self._done = first, expected, done
        self._since = self._clips = self._epoch_clips = 0
        self._loss_sum = 0.0
        self._from = self._started = self._last = time.monotonic()
        if not self._begun:
            self._begun = True
            if self._journal is not None:
                self._journal.begin(self._place() + 1)

    def step(self, clips: int, loss: float, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Count a step.

        Args:
            clips: clips of this worker.
            loss: their mean loss, in nats.
            optimizer: optimizer whose learning rate is recorded; None where nothing is trained.
        """
        if self._journal is None:
            return
        now = self._last = time.monotonic()
        self._done += 1
        self._since += 1
        self._clips += clips * self._workers
        self._epoch_clips += clips * self._workers
        self._loss_sum += loss
        seconds = now - self._from
        if self._since < STEPS_NOTED and seconds < SECONDS_NOTED and self._done < self._expected:
            return
        rate = float(optimizer.param_groups[-1]["lr"]) if optimizer else None
        speed = self._clips / max(seconds, 1e-9)
        mean = self._loss_sum / self._since
        self._journal.note(Point(self._place(), self._since, self._clips, mean, rate, speed))
        self._from, self._since, self._clips, self._loss_sum = now, 0, 0, 0.0

    def end(self, row: Row, held: EpochFigures) -> None:
        """End an epoch.

        Args:
            row: row of the history.
            held: figures of the validation clips of all workers.
        """
        if self._journal is None:
            return
        speed = self._epoch_clips / max(self._last - self._started, 1e-9)
        self._journal.epoch(row, self._place(), speed, held.confusion_GG.tolist() if held.clips else None)

    def _place(self) -> int:
        """Return the last step by the expected lengths of the epochs, so that epochs never overlap in a plot."""
        return self._first + min(self._done, self._expected)


class JournalHandle:
    """A `Journal` on the driver's node. You can pickle it; the journal ends when the last copy is gone."""

    def __init__(self, actor: DriverActor[Journal]) -> None:
        self._actor = actor

    @classmethod
    def start(cls, plan: JournalPlan) -> JournalHandle:
        """Start a journal."""
        # Pass on the driver's address and credentials; the node may have none, or different ones.
        variables = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
        return cls(DriverActor.start(Journal, plan, environment=variables if plan.mlflow is not None else {}))

    def begin(self, step: int) -> None:
        """Pass on `Journal.begin` without waiting."""
        self._actor.tell(Journal.begin, step)

    def note(self, point: Point) -> None:
        """Pass on `Journal.note` without waiting."""
        self._actor.tell(Journal.note, point)

    def epoch(self, row: Row, step: int, clips_per_second: float, confusion_GG: list[list[int]] | None) -> None:
        """Pass on `Journal.epoch` without waiting."""
        self._actor.tell(Journal.epoch, row, step, clips_per_second, confusion_GG)

    def close(
        self, row: Row | None, tags: Mapping[str, str] | None = None, patience_seconds: float = 60.0
    ) -> list[str]:
        """Close the journal. Return what went wrong with it, one line each.

        Args:
            row: row of the epoch that is kept; None if the training failed.
            tags: more facts about the run, by name.
            patience_seconds: time to wait for a server that does not answer.
        """
        try:
            return self._actor.ask_within(patience_seconds, Journal.close, row, tags)
        except RayError as error:
            return [f"the training's journal is not complete: {' '.join(str(error).split())[:200]}"]

    def problems(self, patience_seconds: float = 30.0) -> list[str]:
        """Return what went wrong with the journal so far, one line each; nothing if it does not answer in time."""
        try:
            return self._actor.ask_within(patience_seconds, Journal.problems)
        except RayError:
            return []


def collect_settings(experiment: Experiment) -> dict[str, bool | float | str]:
    """Return the fields of an experiment by their dotted names, lists as text. Fields that are not set are left out."""
    fields = {name: value for name, value in experiment.dotted().items() if name not in _NO_SETTINGS}
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in fields.items()
        if value is not None
    }
