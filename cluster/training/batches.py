"""Turn a worker's shard of a stream into batches: cut it into shares of each global batch, mix them, make tensors.

Axes: B batch, F mel bins, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import torch
from ray.data import DataIterator

from cluster.training.job import TrainingJob
from mgc.features.clips import read_clips
from mgc.training.batch import Batch
from mgc.training.seeds import derive_seed

SHUFFLE_CLIPS: Final = 4096
SHUFFLE_BYTES: Final = 64 * 2**20
"""Largest total size, over all workers, of the clips held for mixing. It is 4096 clips of 128 x 128 bytes."""

_FILLED: Final = 1.5
"""Ray fills a buffer to this multiple of the requested size, and takes rows from it until a third is left."""

VALIDATION_BATCH: Final = 256
"""Clips of a validation batch."""


def to_batches(tables: Iterable[pa.Table], job: TrainingJob) -> Iterator[Batch]:
    """Return the rows of a feed as batches of tensors.

    Raises:
        FeaturesError: a clip has a different size than the metadata of the features say.
    """
    index = {name: number for number, name in enumerate(job.taxonomy.names)}
    for table in tables:
        # Copy, because the clips of a block are read-only and augmentation writes to them.
        features_BFT = torch.from_numpy(read_clips(table["features"], job.shape, job.dtype).copy())
        genre_B = torch.tensor([index[name] for name in table["genre_top"].to_pylist()])
        yield Batch(features_BFT, genre_B, table["track_id"].to_pylist())


def read_training_batches(
    shard: DataIterator, job: TrainingJob, epoch: int, rank: int, world: int, skip: int = 0
) -> Iterator[Batch]:
    """Return one worker's batches of an epoch: its share of each global batch.

    All workers get the same number of batches, as long as their shards have the same number of rows.

    Args:
        shard: the worker's shard of the training stream.
        job: training job.
        epoch: number of the epoch from 0; together with the seed it decides how clips are mixed.
        rank: number of the worker.
        world: number of workers.
        skip: steps that are already done.
    """
    training = job.experiment.training
    rows = shard.iter_batches(
        batch_size=max(1, training.batch_size // world),
        batch_format="pyarrow",
        prefetch_batches=job.profile.prefetch_batches,
        local_shuffle_buffer_size=max(1, int(count_shuffled_clips(job) / _FILLED) // world),
        local_shuffle_seed=derive_seed(training.seed, epoch) % 2**31,
    )
    for batch in to_batches(cut_shares(rows, training.batch_size, rank, world, skip), job):
        weight = weigh_share(len(batch.genre_B), training.batch_size, world)
        yield Batch(batch.features_BFT, batch.genre_B, batch.track_ids, weight)


def count_shuffled_clips(job: TrainingJob) -> int:
    """Return the most clips that all workers together hold for mixing. Each batch is drawn from at least a third."""
    clip_bytes = math.prod(job.shape) * np.dtype(job.dtype).itemsize
    return min(SHUFFLE_CLIPS, SHUFFLE_BYTES // clip_bytes)


def cut_shares(tables: Iterable[pa.Table], batch_size: int, rank: int, world: int, skip: int = 0) -> Iterator[pa.Table]:
    """Return the rows of a shard, cut into this worker's share of each global batch.

    The global batch need not divide evenly. After k steps worker r has yielded ⌊(k B + r) / W⌋ rows, which is k B over
    all workers. A worker takes a step only if it has enough rows for the largest share. So workers with equally long
    shards stop after the same step, and the rest is dropped. If there are too few rows for even one step, all that came
    are the only one: balanced draws vary in number, so an epoch of about one batch may miss it.

    Args:
        tables: the shard.
        batch_size: B, rows of a global batch.
        rank: r, number of the worker.
        world: W, number of workers.
        skip: steps to leave out.
    """
    held: list[pa.Table] = []
    came, given, step = 0, 0, 0
    for table in tables:
        held.append(table)
        came += table.num_rows
        while came >= -(-(step + 1) * batch_size // world):
            end = ((step + 1) * batch_size + rank) // world
            whole = pa.concat_tables(held)
            if step >= skip:
                yield whole.slice(0, end - given)
            held = [whole.slice(end - given)]
            given, step = end, step + 1
    if came and not step and not skip:
        yield pa.concat_tables(held)


def weigh_share(clips: int, batch_size: int, world: int) -> float:
    """Return the weight of a worker's share of a batch; of one that is short for all workers alike, 1."""
    return clips * world / batch_size if clips >= batch_size // world else 1.0
