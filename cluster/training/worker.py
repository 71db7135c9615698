"""What one worker of a data-parallel training does: Ray Train calls it in a process of its own, on every rank."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.data import DataIterator
from ray.train import CheckpointUploadMode
from ray.train.torch import get_device, prepare_model
from torch import distributed, nn

from cluster.session.epoch_counter import EpochCounter
from cluster.session.progress import ProgressSink
from cluster.training.batches import VALIDATION_BATCH, batches, training_batches
from cluster.training.job import TrainingJob
from cluster.training.journal import Pen
from mgc.errors import TrainingError
from mgc.models.blocks import Classifier, parameter_count
from mgc.training.course import Course, epoch_row
from mgc.training.figures import EpochFigures
from mgc.training.ghost import normalize_over, sharing_workers
from mgc.training.loop import Learner


def work(config: dict[str, Any]) -> None:
    """Train until the course is over, reporting each epoch to Ray Train.

    What is wrong with the training itself (a loss that is not finite) is wrong on every worker, and would be again: it
    is saved as the end of the course, and nothing is raised that Ray Train would try once more.

    Args:
        config: `job`, a `TrainingJob`; `progress`, a `ProgressSink` or None; `epoch`, the `EpochCounter` that the
            training stream asks, or None; `validates`, whether there is a validation stream; `journal`, a
            `JournalHandle` or None.
    """
    job: TrainingJob = config["job"]
    progress: ProgressSink | None = config["progress"]
    counter: EpochCounter | None = config["epoch"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(job.threads)
    checkpoint = ray.train.get_checkpoint()
    with checkpoint.as_directory() if checkpoint else contextlib.nullcontext() as folder:
        course = Course(
            job.training, job.model, lambda model: _learner(job, model, device), Path(folder) if folder else None
        )
    shard = ray.train.get_dataset_shard("train")
    held_out = ray.train.get_dataset_shard("validation") if config["validates"] else None

    def on_step(clips: int, loss: float) -> None:
        if progress is not None:
            progress.add({"clips": clips}, {"loss": loss})
        pen.step(clips, loss, course.learner.optimizer)

    pen = Pen(config["journal"], rank, world)
    while (epoch := course.begin()) is not None:
        if counter is not None and rank == 0:
            counter.begin(epoch)
        before = sum(map(job.steps, range(epoch)))
        pen.begin(before, job.steps(epoch))
        if progress is not None and rank == 0:
            done = (before + course.begun()[0]) * job.training.batch_size
            progress.set_counts({"clips": done, "epochs": epoch})
        try:
            figures = _train_epoch(course, job, shard, epoch, rank, world, on_step)
        except TrainingError as error:
            course.fail(str(error))
            _report({"fault": str(error)}, course, rank)
            return
        _share_buffers(course)
        held = _validate(course, job, held_out) if held_out is not None else figures.none()
        row = epoch_row(epoch, figures, held)
        course.end(row)
        pen.end(row, held)
        if progress is not None and rank == 0:
            names = {"validation accuracy": "validation_accuracy", "validation macro-F1": "validation_macro_f1"}
            shown = {words: row[name] for words, name in names.items() if name in row}
            progress.add({"epochs": 1}, shown)
        _report({**course.reported(), "workers": world}, course, rank)


def _train_epoch(
    course: Course,
    job: TrainingJob,
    shard: DataIterator,
    epoch: int,
    rank: int,
    world: int,
    on_step: Callable[[int, float], None],
) -> EpochFigures:
    """The epoch, or what is left of it, with a checkpoint every `checkpoint_steps`; figures of all workers."""
    every = job.profile.checkpoint_steps
    done, figures = course.begun()
    rest = training_batches(shard, job, epoch, rank, world, done)
    while True:
        part = itertools.islice(rest, every)
        # Where an epoch ends with such a part there is nothing in the next; an epoch of nothing at all is an error.
        head = list(itertools.islice(part, 1))
        if not head and done:
            return figures
        gave = course.learner.train_epoch(itertools.chain(head, part), epoch, job.steps(epoch), rank, on_step, done)
        figures = figures + _together(gave)
        done += every
        if figures.clips < done * job.training.batch_size:
            return figures
        course.pause(done, figures)
        _report({"epoch": epoch + 1, "steps": done}, course, rank)


def _validate(course: Course, job: TrainingJob, held_out: DataIterator) -> EpochFigures:
    """The validation clips, each on one of the workers; figures of all."""
    rows = held_out.iter_batches(
        batch_size=VALIDATION_BATCH, batch_format="pyarrow", prefetch_batches=job.profile.prefetch_batches
    )
    return _together(course.learner.validate(batches(rows, job)))


def _learner(job: TrainingJob, model: Classifier, device: torch.device) -> Learner:
    """A learner of what is not frozen of a model, which is wrapped for data-parallel training."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _normalize(model, job)
    # There is nothing to share of a model without parameters, and data-parallel training refuses it.
    wrapped = prepare_model(model) if parameter_count(model) else model.to(device)
    if job.profile.compile:
        # In place: the names of the weights stay.
        wrapped.compile()
    return Learner(
        wrapped, job.training, job.normalization, len(job.taxonomy), device, job.class_counts, job.at_once, _agreed
    )


def _normalize(model: Classifier, job: TrainingJob) -> None:
    """Let batch normalisation take mean and deviation over as many clips as the recipe says."""
    clips = job.training.normalization_batch
    workers = job.profile.train_workers
    sharing = sharing_workers(clips, job.at_once, workers, job.profile.gpus > 0)
    if sharing > 1:
        groups = [distributed.new_group(list(range(first, first + sharing))) for first in range(0, workers, sharing)]
        nn.SyncBatchNorm.convert_sync_batchnorm(model, groups[distributed.get_rank() // sharing])
    elif clips:
        normalize_over(model, clips)


def _report(row: dict[str, object], course: Course, rank: int) -> None:
    """Every worker reports; the first one saves, to a folder that is uploaded while training goes on."""
    if rank:
        ray.train.report(row)
        return
    folder = tempfile.mkdtemp(prefix="mgc-checkpoint-")
    course.save(Path(folder))
    ray.train.report(
        row,
        checkpoint=ray.train.Checkpoint.from_directory(folder),
        checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=True,
    )


def _share_buffers(course: Course) -> None:
    """Give every worker the first one's running statistics of batch normalisation: they are what is saved."""
    if _alone():
        return
    # Without averaging the kept model is the one that learns.
    both = (*course.model.buffers(), *course.learner.kept.buffers())
    for buffer in {id(buffer): buffer for buffer in both}.values():
        distributed.broadcast(buffer, 0)


def _together(figures: EpochFigures) -> EpochFigures:
    """The figures of all workers, summed."""
    if _alone():
        return figures
    device = get_device()
    sums = torch.tensor([float(figures.clips), figures.loss_sum], dtype=torch.float64, device=device)
    confusion_GG = figures.confusion_GG.to(device)
    distributed.all_reduce(sums)
    distributed.all_reduce(confusion_GG)
    return EpochFigures(int(sums[0]), float(sums[1]), confusion_GG.cpu())


def _agreed(fault: str | None) -> str | None:
    """What is wrong on any worker; the first one's words, where there are several."""
    if _alone():
        return fault
    faults = torch.tensor(float(fault is not None), device=get_device())
    distributed.all_reduce(faults)
    if not faults:
        return None
    said: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(said, fault)
    return next(each for each in said if each is not None)


def _alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())
