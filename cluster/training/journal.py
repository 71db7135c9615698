"""Record a training while it runs: TensorBoard event files, an MLflow server, counters for Prometheus.

A `Journal` writes everything down. It is an actor on the driver's node, so the training loop only sends it a message
now and then, and a server that does not answer delays nothing but the journal. Every training starts one, so this file
imports PyTorch only for event files.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ray.util import metrics

from cluster.session.ending_counter import EndingCounter
from cluster.storage.uri import Uri
from cluster.training.mlflow import MlflowRun
from mgc.errors import StorageError
from mgc.evaluation.confusion_image import confusion_image

if TYPE_CHECKING:
    from cluster.training.tensorboard import EventFiles
    from mgc.training.course import Row

FLUSH_SECONDS: Final = 30.0
"""Write event files this often within an epoch, and also at its end."""

_SCORES: Final = ("train_loss", "validation_loss", "validation_accuracy", "validation_macro_f1")


@dataclass(frozen=True)
class JournalPlan:
    """The training that a journal records, and where it writes.

    Attributes:
        name: name of the run, as TensorBoard and MLflow show it; also part of a URI.
        key: key of the training. The same key is the same training, resumed.
        settings: settings of the run by name, see `collect_settings`.
        genres: names of the genres in the order of the logits.
        tensorboard: folder in which the run gets a folder of its own; None for no event files.
        mlflow: URI of an MLflow server; None for none.
    """

    name: str
    key: str
    settings: Mapping[str, bool | float | str] = field(default_factory=dict)
    genres: tuple[str, ...] = ()
    tensorboard: Uri | None = None
    mlflow: str | None = None


@dataclass(frozen=True)
class Point:
    """Some steps of a training.

    Attributes:
        step: last step, counted from the start of the training.
        steps: number of steps.
        clips: number of clips in these steps, over all workers.
        loss: mean loss, in nats per clip.
        learning_rate: learning rate of the last step; None where nothing is trained.
        clips_per_second: speed over all workers.
    """

    step: int
    steps: int
    clips: int
    loss: float
    learning_rate: float | None
    clips_per_second: float


class Journal:
    """Records one training. A fault in the journal never ends the training; see `problems`.

    Args:
        plan: training to record, and where to write.
    """

    def __init__(self, plan: JournalPlan) -> None:
        self._plan = plan
        self._problem: str | None = None
        self._events = _event_files(plan)
        self._mlflow = None if plan.mlflow is None else MlflowRun(plan.mlflow, plan.name, plan.key, plan.settings)
        self._counters = _Counters(plan.name)
        self._written_at = time.monotonic()
        self._confusions: dict[int, list[list[int]]] = {}
        self._steps: dict[int, int] = {}

    def begin(self, step: int) -> None:
        """Begin or resume the training. Hide everything recorded from a step on.

        Args:
            step: first step of this run, counted from 1.
        """
        if self._events is not None:
            self._flush()
            self._events.purge(step)

    def note(self, point: Point) -> None:
        """Record a point."""
        self._counters.steps(point)
        values = {"loss": point.loss, "clips_per_second": point.clips_per_second}
        if point.learning_rate is not None:
            values["learning_rate"] = point.learning_rate
        self._write({f"step/{name}": value for name, value in values.items()}, point.step)
        if time.monotonic() - self._written_at >= FLUSH_SECONDS:
            self._flush()

    def epoch(self, row: Row, step: int, clips_per_second: float, confusion_GG: list[list[int]] | None) -> None:
        """Record an epoch.

        Args:
            row: row of the history.
            step: last step of the epoch, counted from the start of the training.
            clips_per_second: speed of its training, over all workers.
            confusion_GG: counts of validation clips, true genres in rows; None if there are none.
        """
        number = int(row["epoch"])
        self._steps[number] = step
        if confusion_GG is not None:
            self._confusions[number] = confusion_GG
        values = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
        values["clips_per_second"] = clips_per_second
        self._counters.epoch(values)
        self._write({f"epoch/{name}": value for name, value in values.items()}, step)
        self._flush()

    def close(self, row: Row | None, tags: Mapping[str, str] | None = None) -> list[str]:
        """End the training: write the settings, and the confusion matrix of the epoch that was kept.

        Args:
            row: row of that epoch; None if the training failed.
            tags: more facts about the run, by name.

        Returns:
            What went wrong with the journal, one line each.
        """
        image_HWC = None
        scores: dict[str, float] = {}
        step = 0
        if row is not None:
            scores = {f"kept/{name}": float(row[name]) for name in _SCORES if name in row}
            number = int(row["epoch"])
            # This journal does not know the epochs from before the driver was killed.
            step = self._steps.get(number, max(self._steps.values(), default=0))
            if number in self._confusions and self._plan.genres:
                title = f"{self._plan.name}: validation clips, epoch {number}"
                image_HWC = confusion_image(self._confusions[number], self._plan.genres, title)
            if self._events is not None:
                if image_HWC is not None:
                    self._events.image("confusion", image_HWC, step)
                for tag, value in scores.items():
                    self._events.scalar(tag, value, step)
                self._events.parameters(self._plan.settings, scores)
        self._flush()
        if self._mlflow is not None:
            self._mlflow.log(scores, step)
            self._mlflow.end(row is not None, tags or {}, image_HWC)
        return self.problems()

    def problems(self) -> list[str]:
        """Return what went wrong with the journal so far, one line each."""
        return [line for line in (self._problem, self._mlflow and self._mlflow.problem) if line]

    def _write(self, values: Mapping[str, float], step: int) -> None:
        if self._events is not None:
            for tag, value in values.items():
                self._events.scalar(tag, value, step)
        if self._mlflow is not None:
            self._mlflow.log(values, step)

    def _flush(self) -> None:
        self._written_at = time.monotonic()
        if self._events is None:
            return
        try:
            self._events.flush()
        except StorageError as error:
            # The next flush tries them again.
            self._problem = f"TensorBoard's event files are not complete: {error}"
        else:
            self._problem = None


def _event_files(plan: JournalPlan) -> EventFiles | None:
    if plan.tensorboard is None:
        return None
    from cluster.training.tensorboard import EventFiles

    return EventFiles(plan.tensorboard / plan.name)


class _Counters:
    """Counters of a training, published with Ray's own on Ray's metrics port of the journal's node.

    Counters: `ray_mgc_training_clips_total`, `_steps_total` and `_epochs_total`. Gauges of the last steps:
    `ray_mgc_training_loss`, `_learning_rate` and `_clips_per_second`. Gauges of the last epoch: `_validation_loss`,
    `_validation_accuracy` and `_validation_macro_f1`. All have the label `run`.
    """

    def __init__(self, run: str) -> None:
        self._tags = {"run": run}
        self._clips = EndingCounter("mgc_training_clips", "Clips trained on, over all workers.", ("run",))
        self._steps = EndingCounter("mgc_training_steps", "Steps of the optimizer.", ("run",))
        self._epochs = EndingCounter("mgc_training_epochs", "Epochs done.", ("run",))
        rate = "Clips a second of the last steps, over all workers."
        # The names are spelled out, because the check of the dashboards searches for them here.
        self._gauges = {
            "loss": metrics.Gauge("mgc_training_loss", "Loss of the last steps, nats a clip.", ("run",)),
            "learning_rate": metrics.Gauge("mgc_training_learning_rate", "Of the last step.", ("run",)),
            "clips_per_second": metrics.Gauge("mgc_training_clips_per_second", rate, ("run",)),
            "validation_loss": metrics.Gauge("mgc_training_validation_loss", "Of the last epoch, nats.", ("run",)),
            "validation_accuracy": metrics.Gauge("mgc_training_validation_accuracy", "Of the last epoch.", ("run",)),
            "validation_macro_f1": metrics.Gauge("mgc_training_validation_macro_f1", "Of the last epoch.", ("run",)),
        }

    def steps(self, point: Point) -> None:
        self._clips.inc(point.clips, self._tags)
        self._steps.inc(point.steps, self._tags)
        for name in ("loss", "learning_rate", "clips_per_second"):
            value = getattr(point, name)
            if value is not None:
                self._gauges[name].set(value, self._tags)

    def epoch(self, values: Mapping[str, float]) -> None:
        self._epochs.inc(1, self._tags)
        for name, gauge in self._gauges.items():
            if name.startswith("validation_") and name in values:
                gauge.set(values[name], self._tags)
