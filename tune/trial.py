"""What a trial does: train at one point of the space, and tell Tune of each epoch.

With one worker it is a plain function that trains in Tune's own process: four times quicker than a trainer inside of a
trial, which starts a controller and workers of its own. With several it is a driver of that trainer.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from cluster import epochs
from cluster.feed import feed
from cluster.held import HeldClips, follow
from cluster.profiles import Profile
from cluster.tables import read_features
from cluster.trainer import train
from cluster.training_plan import TrainingJob
from mgc.datasets.splits import TRAIN, VALIDATION
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
        features: their URI.
        only: what else must hold of a row, by split.
        counts: training clips of each genre.
        profile: a trial's own part of the cluster.
        checkpoints: folder of the trainers' checkpoints.
    """

    features: str
    only: dict[str, pc.Expression | None]
    counts: dict[str, int]
    profile: Profile
    checkpoints: str


def alone(config: dict[str, Any], space: Space, job: TrainingJob, data: Held) -> None:
    """A trial of one worker."""
    job = job.of(space.apply(job.experiment, point_of(space, config)), 1)
    checkpoint = tune.get_checkpoint()
    with checkpoint.as_directory() if checkpoint else contextlib.nullcontext() as folder:
        follow(job, data.training, data.validation, Path(folder) if folder else None, _report)


def _report(course: Course) -> None:
    with tempfile.TemporaryDirectory() as folder:
        course.save(Path(folder))
        tune.report(course.reported(), checkpoint=tune.Checkpoint.from_directory(folder))


def together(config: dict[str, Any], space: Space, job: TrainingJob, data: Streamed) -> None:
    """A trial of several workers."""
    job = job.of(space.apply(job.experiment, point_of(space, config)), data.profile.train_workers)
    dataset, _ = read_features(data.features)
    epoch = epochs.start()
    stream = feed(dataset, TRAIN, data.profile, data.counts, job.experiment, data.only[TRAIN], epoch)
    held_out = feed(dataset, VALIDATION, data.profile, None, job.experiment, data.only[VALIDATION])
    train(
        job, stream, held_out, data.profile, data.checkpoints, tune.get_context().get_trial_id(), None, epoch,
        [TuneReportCallback()],
    )  # fmt: skip
