"""Hold clips in Ray's object store, and train on them in one process.

This is for many trainings on the same clips, as in a search. The features are read once, and all processes of a node
share the same memory. Sampling, augmentation, the choice of the epoch and the figures are the same as in `trainer`.
Only the order of the clips differs: here all of them are shuffled together.

Axes: B batch, N clips, F mel bins, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
import torch
from ray import ObjectRef
from ray.data import Dataset

from cluster.training.batches import VALIDATION_BATCH
from cluster.training.job import TrainingJob
from mgc.features.clips import read_clips
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
        blocks: references of Arrow tables with the columns of `feed`.
    """

    blocks: tuple[ObjectRef[pa.Table], ...]

    def read(self) -> list[pa.Table]:
        """Return the clips, without a copy on the node that holds them."""
        found: list[pa.Table] = ray.get(list(self.blocks))
        return found


def hold_clips(stream: Dataset) -> HeldClips:
    """Read a plain feed once and keep it. Ray spills to disk what does not fit in memory."""
    return HeldClips(tuple(stream.materialize().to_arrow_refs()))


class HeldClipSet:
    """Held clips as one process sees them: in order of track and clip, regardless of the order of reading.

    Args:
        tables: the clips.
        job: genres, shape and dtype of the features, balance and seed.

    Raises:
        FeaturesError: a clip has a different size than the metadata of the features say.
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

    def draw_rows(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch in training order, (N,) int64. Some rows may repeat."""
        training = self._job.experiment.training
        resample = Resample(self._job.sampling(), training.seed, lambda: epoch)
        rows = resample({**self._rows, "row": np.arange(len(self))})["row"]
        drawn: np.ndarray = np.random.default_rng(derive_seed(training.seed, epoch)).permutation(rows)
        return drawn

    def training_batches(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch, counted from 0.

        Clips that do not fill a batch are left out, unless there are too few for even one.
        """
        rows, size = self.draw_rows(epoch), self._job.experiment.training.batch_size
        if 0 < len(rows) < size:
            yield self._batch(rows)
        for start in range(0, len(rows) - size + 1, size):
            yield self._batch(rows[start : start + size])

    def validation_batches(self) -> Iterator[Batch]:
        """Return every clip once, in batches."""
        for start in range(0, len(self), VALIDATION_BATCH):
            yield self._batch(np.arange(start, min(start + VALIDATION_BATCH, len(self))))

    def _batch(self, rows_B: np.ndarray) -> Batch:
        block_B, place_B = self._where[:, rows_B]
        features_BFT = np.stack(
            [self._views[block][place] for block, place in zip(block_B, place_B, strict=True)],
        )
        genre_B = torch.from_numpy(self._genres[rows_B])
        return Batch(torch.from_numpy(features_BFT), genre_B, self._rows["track_id"][rows_B].tolist())


def train_in_memory(
    job: TrainingJob,
    training: HeldClips,
    validation: HeldClips,
    saved: Path | None,
    report: Callable[[Course], None],
) -> None:
    """Train in this process until the course is over, on its GPU if it has one.

    Args:
        job: what to train.
        training: clips to train on.
        validation: clips that choose the epoch.
        saved: folder that `Course.save` wrote, to continue from; None to begin.
        report: function to call after each epoch.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(job.threads)
    clips, held_out = HeldClipSet(training.read(), job), HeldClipSet(validation.read(), job)

    def build_learner(model: Classifier) -> Learner:
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if job.training.normalization_batch:
            normalize_over(model, job.training.normalization_batch)
        return Learner(model, job.training, job.normalization, len(job.taxonomy), device, job.class_counts, job.at_once)

    course = Course(job.training, job.model, build_learner, saved)
    while (epoch := course.begin()) is not None:
        figures = course.learner.train_epoch(clips.training_batches(epoch), epoch, job.steps(epoch))
        course.end(epoch_row(epoch, figures, course.learner.validate(held_out.validation_batches())))
        report(course)
