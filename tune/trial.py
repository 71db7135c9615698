"""What a trial does: train at one point of the space, and tell Tune of each epoch.

With one worker it is a plain function that trains in Tune's own process: four times quicker than a trainer inside of a
trial, which starts a controller and workers of its own. With several it is a driver of that trainer.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.data import Dataset
from ray.tune.integration.ray_train import TuneReportCallback

from cluster.session.epoch_counter import EpochCounter
from cluster.training.in_memory import HeldClips, follow
from cluster.training.job import TrainingJob
from cluster.training.trainer import train
from mgc.recipes.space import Space
from mgc.training.course import Course
from tune.spaces import point_of


@dataclass(frozen=True)
class Held:
    """Trials of one worker, on clips in the object store.

    Attributes:
        training: clips to train on.
        validation: clips that choose the epoch.
    """

    training: HeldClips
    validation: HeldClips


@dataclass(frozen=True)
class Streamed:
    """Trials of several workers, each with a trainer of its own that streams the features.

    Attributes:
        streams: gives those of training and validation for a job and its epochs.
        checkpoints: folder of the trainers' checkpoints.
    """

    streams: Callable[[TrainingJob, EpochCounter], tuple[Dataset, Dataset]]
    checkpoints: str


class WholeEpochs(TuneReportCallback):
    """Tells Tune what a trainer reports of whole epochs: only these have the figures that trials are compared by."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Called by the trainer, with what each worker reports."""
        if "over" in metrics[0]:
            super().after_report(run_context, metrics, checkpoint)


def alone(config: dict[str, Any], space: Space, job: TrainingJob, data: Held) -> None:
    """A trial of one worker."""
    job = job.of(space.apply(job.experiment, point_of(space, config)))
    checkpoint = tune.get_checkpoint()
    with checkpoint.as_directory() if checkpoint else contextlib.nullcontext() as folder:
        follow(job, data.training, data.validation, Path(folder) if folder else None, _report)


def _report(course: Course) -> None:
    with tempfile.TemporaryDirectory() as folder:
        course.save(Path(folder))
        tune.report(course.reported(), checkpoint=tune.Checkpoint.from_directory(folder))


def together(config: dict[str, Any], space: Space, job: TrainingJob, data: Streamed) -> None:
    """A trial of several workers."""
    job = job.of(space.apply(job.experiment, point_of(space, config)))
    epoch = EpochCounter.start()
    training, validation = data.streams(job, epoch)
    name = tune.get_context().get_trial_id()
    train(job, training, validation, job.profile, data.checkpoints, name, epoch=epoch, callbacks=[WholeEpochs()])
