"""Clips held in Ray's object store, and a training on them in one process.

For many trainings on the same clips, side by side and one after the other, as in a search: the features are read once,
and every process of a node looks at the same memory. Sampling, augmentation, the choice of the epoch and the figures
are those of `trainer`; what differs is the order of the clips, which here is drawn over all of them.

Axes: B batch, N clips, F mel bins, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import Dataset

from cluster.training.batches import VALIDATION_BATCH
from cluster.training.job import TrainingJob
from mgc.features.stored import read_clips
from mgc.models.blocks import Classifier
from mgc.training.batch import Batch
from mgc.training.course import Course, epoch_row
from mgc.training.ghost import normalize_over
from mgc.training.loop import Learner
from mgc.training.sampling import Resample
from mgc.training.seeds import derive_seed


@dataclass(frozen=True)
class HeldClips:
    """Clips of a split in the object store; small and picklable. They live as long as the process that held them.

    Attributes:
        blocks: Arrow tables, as `feed` gives them.
    """

    blocks: tuple[Any, ...]

    def tables(self) -> list[pa.Table]:
        """The clips; on the node that holds them without a copy."""
        found: list[pa.Table] = ray.get(list(self.blocks))
        return found


def hold(stream: Dataset) -> HeldClips:
    """Read a plain feed once, and keep it; what does not fit in memory, Ray puts on the disk."""
    return HeldClips(tuple(stream.materialize().to_arrow_refs()))


class Clips:
    """Held clips as one process sees them: in order of track and clip, whatever order they were read in.

    Args:
        tables: what to look at.
        job: genres, shape and type of the features, balance and seed.

    Raises:
        FeaturesError: a clip is of another size than the features' metadata say.
    """

    def __init__(self, tables: Iterable[pa.Table], job: TrainingJob) -> None:
        self._job = job
        index = {name: number for number, name in enumerate(job.taxonomy.names)}
        columns: dict[str, list[np.ndarray]] = {"track_id": [], "clip_index": [], "genre_top": []}
        self._views: list[np.ndarray] = []
        where: list[np.ndarray] = []
        for table in tables:
            for part in table.to_batches():
                if not part.num_rows:
                    continue
                for name, found in columns.items():
                    found.append(part[name].to_numpy(zero_copy_only=False))
                where.append(np.stack([np.full(part.num_rows, len(self._views)), np.arange(part.num_rows)]))
                self._views.append(read_clips(part["features"], job.shape, job.dtype))
        together = {name: np.concatenate(found) for name, found in columns.items()}
        order = np.lexsort((together["clip_index"], together["track_id"].astype(str)))
        self._rows = {name: values[order] for name, values in together.items()}
        self._where = np.concatenate(where, axis=1)[:, order]
        self._genres = np.array([index[name] for name in self._rows["genre_top"]])

    def __len__(self) -> int:
        return len(self._genres)

    def drawn(self, epoch: int) -> np.ndarray:
        """The clips of an epoch, some of them more than once, in the order in which they are trained on."""
        training = self._job.experiment.training
        resample = Resample(self._job.sampling(), training.seed, lambda: epoch)
        rows = resample({**self._rows, "row": np.arange(len(self))})["row"]
        drawn: np.ndarray = np.random.default_rng(derive_seed(training.seed, epoch)).permutation(rows)
        return drawn

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Training batches of an epoch, counted from 0; a remainder is left out."""
        rows, size = self.drawn(epoch), self._job.experiment.training.batch_size
        for start in range(0, len(rows) - size + 1, size):
            yield self._batch(rows[start : start + size])

    def all(self) -> Iterator[Batch]:
        """Every clip once."""
        for start in range(0, len(self), VALIDATION_BATCH):
            yield self._batch(np.arange(start, min(start + VALIDATION_BATCH, len(self))))

    def _batch(self, rows_B: np.ndarray) -> Batch:
        block_B, place_B = self._where[:, rows_B]
        features_BFT = np.stack(
            [self._views[block][place] for block, place in zip(block_B, place_B, strict=True)],
        )
        genre_B = torch.from_numpy(self._genres[rows_B])
        return Batch(torch.from_numpy(features_BFT), genre_B, self._rows["track_id"][rows_B].tolist())


def follow(
    job: TrainingJob,
    training: HeldClips,
    validation: HeldClips,
    saved: Path | None,
    report: Callable[[Course], None],
) -> None:
    """Train in this process, on its GPU where it was given one, until the course is over.

    Args:
        job: what to train.
        training: clips to train on.
        validation: clips that choose the epoch.
        saved: folder that `Course.save` wrote, to go on from there.
        report: called after each epoch.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(job.threads)
    clips, held_out = Clips(training.tables(), job), Clips(validation.tables(), job)

    def learner(model: Classifier) -> Learner:
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if job.training.normalization_batch:
            normalize_over(model, job.training.normalization_batch)
        return Learner(model, job.training, job.normalization, len(job.taxonomy), device, job.class_counts, job.at_once)

    course = Course(job.training, job.model, learner, saved)
    while (epoch := course.begin()) is not None:
        figures = course.learner.train_epoch(clips.epoch(epoch), epoch, job.steps(epoch))
        course.end(epoch_row(epoch, figures, course.learner.validate(held_out.all())))
        report(course)
