"""What one worker of a data-parallel training does: Ray Train calls it in a process of its own, on every rank."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Final

import ray
import ray.train
import torch
from ray.train.torch import get_device, prepare_model

from cluster.feed import batches, training_batches
from cluster.training_journal import Pen
from cluster.training_plan import TrainingJob
from mgc.models.blocks import Classifier, parameter_count
from mgc.training.course import Course, Row, epoch_row
from mgc.training.figures import EpochFigures
from mgc.training.loop import Learner

VALIDATION_BATCH: Final = 256
"""Clips."""


def work(config: dict[str, Any]) -> None:
    """Train until the course is over, reporting each epoch to Ray Train.

    Args:
        config: `job`, a `TrainingJob`; `progress`, a handle of `progress.watched` or None; `epoch`, the handle that the
            training stream was given or None; `journal`, a handle of `training_journal.start` or None.
    """
    job: TrainingJob = config["job"]
    progress = config["progress"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(job.threads)
    training = job.experiment.training
    checkpoint = ray.train.get_checkpoint()
    with checkpoint.as_directory() if checkpoint else contextlib.nullcontext() as folder:
        course = Course(
            training, job.model, lambda model: _learner(job, model, device), Path(folder) if folder else None
        )
    shard = ray.train.get_dataset_shard("train")
    held_out = ray.train.get_dataset_shard("validation")

    def on_step(clips: int, loss: float) -> None:
        if progress is not None:
            progress.add.remote({"clips": clips}, {"loss": loss})
        pen.step(clips, loss, course.learner.optimizer)

    pen = Pen(config["journal"], rank, world)
    while (epoch := course.begin()) is not None:
        if config["epoch"] is not None and rank == 0:
            ray.get(config["epoch"].begin.remote(epoch))
        pen.begin(sum(map(job.steps, range(epoch))), job.steps(epoch))
        learner = course.learner
        given = training_batches(shard, job, epoch, rank, world)
        figures = _together(learner.train_epoch(given, epoch, job.steps(epoch), rank, on_step))
        rows = held_out.iter_batches(batch_size=VALIDATION_BATCH, batch_format="pyarrow")
        mine = (batch for number, batch in enumerate(batches(rows, job)) if number % world == rank)
        _share_buffers(course)
        held = _together(learner.validate(mine))
        row = epoch_row(epoch, figures, held)
        course.end(row)
        pen.end(row, held)
        if progress is not None and rank == 0:
            names = {"validation accuracy": "validation_accuracy", "validation macro-F1": "validation_macro_f1"}
            shown = {words: row[name] for words, name in names.items() if name in row}
            progress.add.remote({"epochs": 1}, shown)
        _report(row, course, rank)


def _learner(job: TrainingJob, model: Classifier, device: torch.device) -> Learner:
    """A learner of what is not frozen of a model, which is wrapped for data-parallel training."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # There is nothing to share of a model without parameters, and data-parallel training refuses it.
    wrapped = prepare_model(model) if parameter_count(model) else model.to(device)
    return Learner(wrapped, job.experiment.training, job.normalization, len(job.taxonomy), device, job.class_counts)


def _report(row: Row, course: Course, rank: int) -> None:
    """Every worker reports; the first one saves."""
    if rank:
        ray.train.report(row)
        return
    with tempfile.TemporaryDirectory() as folder:
        course.save(Path(folder))
        ray.train.report(row, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _share_buffers(course: Course) -> None:
    """Give every worker the first one's running statistics of batch normalisation: they are what is saved."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        # Without averaging the kept model is the one that learns.
        both = (*course.model.buffers(), *course.learner.kept.buffers())
        for buffer in {id(buffer): buffer for buffer in both}.values():
            torch.distributed.broadcast(buffer, 0)


def _together(figures: EpochFigures) -> EpochFigures:
    """The figures of all workers, summed."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return figures
    device = get_device()
    sums = torch.tensor([float(figures.clips), figures.loss_sum], dtype=torch.float64, device=device)
    confusion_GG = figures.confusion_GG.to(device)
    torch.distributed.all_reduce(sums)
    torch.distributed.all_reduce(confusion_GG)
    return EpochFigures(int(sums[0]), float(sums[1]), confusion_GG.cpu())
