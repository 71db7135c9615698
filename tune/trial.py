"""Run a trial: train at one point of the space, and report each epoch to Ray Tune.

A trial with one worker is a plain function that trains in Tune's own process. It is four times as fast as a trainer
inside a trial, which starts its own controller and workers. A trial with several workers runs such a trainer.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
from ray import tune
from ray.data import Dataset
from ray.tune.integration.ray_train import TuneReportCallback

from cluster.session.epoch_counter import EpochCounter
from cluster.session.software import begin_work
from cluster.storage.uri import Uri
from cluster.training.in_memory import HeldClips, train_in_memory
from cluster.training.job import TrainingJob
from cluster.training.trainer import TrainingRun, train
from mgc.recipes.space import Space
from mgc.software import Software
from mgc.training.course import Course, find_damage
from tune.spaces import Category, to_point

if TYPE_CHECKING:
    from cluster.session.ray_internals import TrainRunContext


@dataclass(frozen=True)
class InMemoryData:
    """Clips in the object store, for trials with one worker.

    Attributes:
        training: clips to train on.
        validation: clips that choose the epoch.
    """

    training: HeldClips
    validation: HeldClips


@dataclass(frozen=True)
class StreamedData:
    """Streamed clips, for trials with several workers, each with a trainer of its own.

    Attributes:
        streams: function that makes the training and validation streams from a job and its epoch counter.
        checkpoints: folder of the trainers' checkpoints.
    """

    streams: Callable[[TrainingJob, EpochCounter], tuple[Dataset, Dataset]]
    checkpoints: Uri


class ReportEpochs(TuneReportCallback):
    """Passes a trainer's reports at the end of an epoch to Tune. Only these have the figures to compare trials by."""

    def after_report(
        self, run_context: TrainRunContext, metrics: list[dict[str, Any]], checkpoint: ray.train.Checkpoint | None
    ) -> None:
        """Pass on the workers' reports; the trainer calls this."""
        if "over" in metrics[0]:
            super().after_report(run_context, metrics, checkpoint)


def train_alone(
    config: Mapping[str, Category], space: Space, job: TrainingJob, data: InMemoryData, software: Software
) -> None:
    """Run a trial with one worker.

    Args:
        config: Ray Tune's configuration of the trial.
        space: searched space.
        job: job of the unchanged recipe.
        data: clips.
        software: software of the driver.

    Raises:
        ResourceError: this process runs other software than the driver.
    """
    begin_work(software)
    job = job.of(space.apply(job.experiment, to_point(space, config)))
    checkpoint = tune.get_checkpoint()
    with checkpoint.as_directory() if checkpoint else contextlib.nullcontext() as folder:
        saved = Path(folder) if folder else None
        if saved is not None and (damage := find_damage(saved)) is not None:
            print(f"{saved}: this checkpoint is damaged ({damage}); the trial starts from the beginning.")
            saved = None
        train_in_memory(job, data.training, data.validation, saved, _report)


def _report(course: Course) -> None:
    with tempfile.TemporaryDirectory() as folder:
        course.save(Path(folder))
        tune.report(course.reported(), checkpoint=tune.Checkpoint.from_directory(folder))


def train_together(
    config: Mapping[str, Category], space: Space, job: TrainingJob, data: StreamedData, software: Software
) -> None:
    """Run a trial with several workers. See `train_alone` for the arguments and errors."""
    begin_work(software)
    job = job.of(space.apply(job.experiment, to_point(space, config)))
    epoch = EpochCounter.start()
    training, validation = data.streams(job, epoch)
    name = tune.get_context().get_trial_id()
    callbacks = [ReportEpochs()]
    train(TrainingRun(job, training, validation, data.checkpoints, name, epoch=epoch, callbacks=callbacks))
