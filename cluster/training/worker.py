"""One worker of a data-parallel training. Ray Train runs each worker in a process of its own."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import ray.train
import torch
from ray.data import DataIterator
from ray.train import CheckpointUploadMode
from ray.train.torch import get_device, prepare_model
from torch import distributed, nn

from cluster.session.counts import ProgressSink
from cluster.session.epoch_counter import EpochCounter
from cluster.session.lifetime import end_with_node
from cluster.session.software import difference_from
from cluster.training.batches import VALIDATION_BATCH, read_training_batches, to_batches
from cluster.training.checkpoints import open_sound_checkpoint
from cluster.training.job import TrainingJob
from cluster.training.journal_writer import JournalHandle, JournalWriter
from mgc.errors import TrainingError
from mgc.models.blocks import Classifier, parameter_count
from mgc.software import Software
from mgc.training.course import Course, epoch_row
from mgc.training.figures import EpochFigures
from mgc.training.ghost import normalize_over, sharing_workers
from mgc.training.loop import Learner

_SHOWN: Final = {"validation accuracy": "validation_accuracy", "validation macro-F1": "validation_macro_f1"}
"""Figures of an epoch that the progress shows."""


@dataclass(frozen=True)
class WorkerTask:
    """Instructions for every worker; picklable.

    Attributes:
        job: what to train.
        validates: whether there is a validation stream.
        progress: counters of the job; None if its progress is not shown.
        epoch: counter from which the training stream reads the epoch, if it needs one.
        journal: journal of the training, if there is one.
        software: software of the driver, which makes the task; workers refuse another.
    """

    job: TrainingJob
    validates: bool
    progress: ProgressSink | None = None
    epoch: EpochCounter | None = None
    journal: JournalHandle | None = None
    software: Software = field(default_factory=Software.here)


def work(config: Mapping[str, WorkerTask]) -> str | None:
    """Train until the course is over, and report each epoch to Ray Train.

    A fault of the training itself, such as a loss that is not finite, occurs on every worker and would occur again. It
    is saved as the end of the course and not raised, because Ray Train would try again.

    Args:
        config: `task`.

    Returns:
        None, or why no worker trained: one of them runs other software than the driver. Nothing is saved then.
    """
    refused = _agree_on_fault(difference_from(config["task"].software))
    if refused is not None:
        return refused
    end_with_node()
    _Worker(config["task"]).train()
    return None


class _Worker:
    """One worker, in its process.

    Args:
        task: what to do.
    """

    def __init__(self, task: WorkerTask) -> None:
        self._task = task
        self._job = task.job
        context = ray.train.get_context()
        self._rank, self._world = context.get_world_rank(), context.get_world_size()
        device = get_device()
        if device.type == "cpu":
            torch.set_num_threads(self._job.threads)
        with open_sound_checkpoint(self._rank, _agree_on_fault) as saved:
            self._course = Course(
                self._job.training, self._job.model, lambda model: _build_learner(self._job, model, device), saved
            )
        self._writer = JournalWriter(task.journal, self._rank, self._world)

    def train(self) -> None:
        """Train until the course is over."""
        shard = ray.train.get_dataset_shard("train")
        held_out = ray.train.get_dataset_shard("validation") if self._task.validates else None
        course = self._course
        while (epoch := course.begin()) is not None:
            self._announce(epoch)
            try:
                figures = self._train_epoch(shard, epoch)
            except TrainingError as error:
                course.fail(str(error))
                self._report({"fault": str(error)})
                return
            _share_buffers(course)
            held = self._validate(held_out) if held_out is not None else figures.none()
            row = epoch_row(epoch, figures, held)
            course.end(row)
            self._writer.end(row, held)
            if self._task.progress is not None and self._rank == 0:
                shown = {words: row[name] for words, name in _SHOWN.items() if name in row}
                self._task.progress.add({"epochs": 1}, shown)
            self._report({**course.reported(), "workers": self._world})

    def _announce(self, epoch: int) -> None:
        """Announce the epoch to the stream, the journal and the progress."""
        job, task = self._job, self._task
        if task.epoch is not None and self._rank == 0:
            task.epoch.begin(epoch)
        before = sum(map(job.steps, range(epoch)))
        self._writer.begin(before, job.steps(epoch))
        if task.progress is not None and self._rank == 0:
            done = (before + self._course.begun()[0]) * job.training.batch_size
            task.progress.set_counts({"clips": done, "epochs": epoch})

    def _train_epoch(self, shard: DataIterator, epoch: int) -> EpochFigures:
        """Train the epoch, or the rest of it, with a checkpoint every `checkpoint_steps`.

        Returns:
            The figures of all workers.
        """
        job, course = self._job, self._course
        every = job.profile.checkpoint_steps
        done, figures = course.begun()
        rest = read_training_batches(shard, job, epoch, self._rank, self._world, done)
        while True:
            part = itertools.islice(rest, every)
            # An epoch may end exactly with a part, so that the next part is empty. Only an empty epoch is an error.
            head = list(itertools.islice(part, 1))
            if not head and done:
                return figures
            batches = itertools.chain(head, part)
            gave = course.learner.train_epoch(batches, epoch, job.steps(epoch), self._rank, self._end_step, done)
            figures = figures + _sum_figures(gave)
            done += every
            if figures.clips < done * job.training.batch_size:
                return figures
            course.pause(done, figures)
            self._report({"epoch": epoch + 1, "steps": done})

    def _end_step(self, clips: int, loss: float) -> None:
        if self._task.progress is not None:
            self._task.progress.add({"clips": clips}, {"loss": loss})
        self._writer.step(clips, loss, self._course.learner.optimizer)

    def _validate(self, held_out: DataIterator) -> EpochFigures:
        """Validate each clip on one of the workers, and return the figures of all workers."""
        prefetch = self._job.profile.prefetch_batches
        rows = held_out.iter_batches(batch_size=VALIDATION_BATCH, batch_format="pyarrow", prefetch_batches=prefetch)
        return _sum_figures(self._course.learner.validate(to_batches(rows, self._job)))

    def _report(self, row: Mapping[str, object]) -> None:
        """Report to Ray Train. The first worker also saves to a folder, which is uploaded while training continues."""
        if self._rank:
            ray.train.report(dict(row))
            return
        folder = tempfile.mkdtemp(prefix="mgc-checkpoint-")
        self._course.save(Path(folder))
        ray.train.report(
            dict(row),
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )


def _build_learner(job: TrainingJob, model: Classifier, device: torch.device) -> Learner:
    """Return a learner with the model wrapped for data-parallel training."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _normalize_batches(model, job)
    # Data-parallel training refuses a model without parameters.
    wrapped = prepare_model(model) if parameter_count(model) else model.to(device)
    if job.profile.compile:
        # Compile in place, so that the names of the weights stay.
        wrapped.compile()
    return Learner(
        wrapped,
        job.training,
        job.normalization,
        len(job.taxonomy),
        device,
        job.class_counts,
        job.at_once,
        _agree_on_fault,
    )


def _normalize_batches(model: Classifier, job: TrainingJob) -> None:
    """Make batch normalisation take mean and deviation over the number of clips that the recipe sets."""
    clips = job.training.normalization_batch
    workers = job.profile.train_workers
    sharing = sharing_workers(clips, job.at_once, workers, job.profile.gpus > 0)
    if sharing > 1:
        groups = [distributed.new_group(list(range(first, first + sharing))) for first in range(0, workers, sharing)]
        nn.SyncBatchNorm.convert_sync_batchnorm(model, groups[distributed.get_rank() // sharing])
    elif clips:
        normalize_over(model, clips)


def _share_buffers(course: Course) -> None:
    """Copy the first worker's running statistics of batch normalisation to every worker, because those are saved."""
    if _is_alone():
        return
    # Without averaging, the kept model is the model being trained.
    both = (*course.model.buffers(), *course.learner.kept.buffers())
    for buffer in {id(buffer): buffer for buffer in both}.values():
        distributed.broadcast(buffer, 0)


def _sum_figures(figures: EpochFigures) -> EpochFigures:
    """Return the sum of all workers' figures."""
    if _is_alone():
        return figures
    device = get_device()
    sums = torch.tensor([float(figures.clips), figures.loss_sum], dtype=torch.float64, device=device)
    confusion_GG = figures.confusion_GG.to(device)
    distributed.all_reduce(sums)
    distributed.all_reduce(confusion_GG)
    return EpochFigures(int(sums[0]), float(sums[1]), confusion_GG.cpu())


def _agree_on_fault(fault: str | None) -> str | None:
    """Return the fault of the lowest rank that has one; None if no worker has a fault."""
    if _is_alone():
        return fault
    faults = torch.tensor(float(fault is not None), device=get_device())
    distributed.all_reduce(faults)
    if not faults:
        return None
    said: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(said, fault)
    return next(each for each in said if each is not None)


def _is_alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())
