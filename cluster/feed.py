"""The clips of a features table as a stream: those of a split, for training in random order and balanced.

Axes: B batch, F mel bins, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import ray
import torch
from ray.data import DataIterator, Dataset

from cluster.clip_rows import BLOCK_BYTES, ClipRows, Order
from cluster.epochs import AskEpoch
from cluster.feed_rows import FEED, Side
from cluster.profiles import Profile
from cluster.session import data_context
from cluster.tables import columns_of
from cluster.training_plan import TrainingJob
from mgc.experiment import Experiment
from mgc.training.batch import Batch
from mgc.training.sampling import Resample
from mgc.training.seeds import derive_seed

SHUFFLE_CLIPS: Final = 4096
SHUFFLE_BYTES: Final = 64 * 2**20
"""What all workers together hold to mix, at most: so many clips of 128 x 128 bytes are so much."""

_FILLED: Final = 1.5
"""Ray fills a buffer up to so many times what it is asked for, and gives from it until a third is left."""

VALIDATION_BATCH: Final = 256
"""Clips."""


def side(
    split: str,
    counts: dict[str, int] | None,
    experiment: Experiment,
    only: pc.Expression | None = None,
    epoch: Any = None,
) -> Side:
    """The stage that makes a feed of rows. See `feed` for the arguments."""
    training = experiment.training
    if counts is None or (training.balance == "natural" and not training.head_epochs):
        return Side(split, experiment.protocol, only)
    resample = Resample(training.sampling(counts), training.seed, AskEpoch(epoch))
    return Side(split, experiment.protocol, only, resample)


def feed(
    dataset: pads.FileSystemDataset,
    split: str,
    profile: Profile,
    counts: dict[str, int] | None,
    experiment: Experiment,
    only: pc.Expression | None = None,
    epoch: Any = None,
) -> Dataset:
    """The clips of a split: `track_id`, `clip_index`, `genre_top`, `features`, and `artist_id`, "" where unknown.

    Args:
        dataset: a features table.
        split: which rows, as the protocol of the experiment divides them.
        profile: resources of the reading tasks.
        counts: of the genres, for a training stream: its row groups come in another order in each epoch, and its rows
            are repeated for balance. None for a plain one.
        experiment: protocol, balance and seed.
        only: what else must hold of a row; see `Roster.only`.
        epoch: a handle of `epochs.start`, for a training stream.
    """
    data_context(profile)
    order = None if counts is None else Order(experiment.training.seed, AskEpoch(epoch))
    columns = list(dict.fromkeys([*columns_of(dataset), *FEED]))
    source = ClipRows(dataset, columns, side(split, counts, experiment, only, epoch), order)
    # There are as many blocks as tasks and BLOCK_BYTES make; of more blocks that are asked for Ray makes smaller ones.
    at_once = min(max(2, profile.cores), max(1, source.tasks))
    rows: Dataset = ray.data.read_datasource(
        source, num_cpus=profile.io_cpus, concurrency=at_once, override_num_blocks=1
    )
    # Of this stream alone.
    rows.context.target_max_block_size = BLOCK_BYTES
    return rows


def batches(tables: Iterable[pa.Table], job: TrainingJob) -> Iterator[Batch]:
    """Rows of a feed as batches of tensors."""
    index = {name: number for number, name in enumerate(job.taxonomy.names)}
    for table in tables:
        joined = bytearray(b"".join(table["features"].to_pylist()))
        features_BFT = torch.frombuffer(joined, dtype=getattr(torch, job.dtype)).reshape(-1, *job.shape)
        genre_B = torch.tensor([index[name] for name in table["genre_top"].to_pylist()])
        yield Batch(features_BFT, genre_B, table["track_id"].to_pylist())


def training_batches(
    shard: DataIterator, job: TrainingJob, epoch: int, rank: int, world: int, skip: int = 0
) -> Iterator[Batch]:
    """One worker's batches of an epoch: its share of each step's global batch.

    All workers get the same number of them, as long as their shards have the same number of rows.

    Args:
        shard: of the training stream.
        job: what is trained.
        epoch: counted from 0; with the seed it decides how clips are mixed.
        rank: of the worker.
        world: workers.
        skip: steps that are done already.
    """
    training = job.experiment.training
    rows = shard.iter_batches(
        batch_size=max(1, training.batch_size // world),
        batch_format="pyarrow",
        prefetch_batches=job.profile.prefetch_batches,
        local_shuffle_buffer_size=max(1, int(shuffled_clips(job) / _FILLED) // world),
        local_shuffle_seed=derive_seed(training.seed, epoch) % 2**31,
    )
    for batch in batches(shares(rows, training.batch_size, rank, world, skip), job):
        weight = len(batch.genre_B) * world / training.batch_size
        yield Batch(batch.features_BFT, batch.genre_B, batch.track_ids, weight)


def shuffled_clips(job: TrainingJob) -> int:
    """Clips that all workers together hold to mix, at most. A batch is drawn from a third of them at least."""
    clip_bytes = math.prod(job.shape) * np.dtype(job.dtype).itemsize
    return min(SHUFFLE_CLIPS, SHUFFLE_BYTES // clip_bytes)


def shares(tables: Iterable[pa.Table], batch_size: int, rank: int, world: int, skip: int = 0) -> Iterator[pa.Table]:
    """The rows of a shard cut into this worker's share of each global batch, also where it does not divide evenly.

    After k steps worker r has given ⌊(k B + r) / W⌋ rows; that is k B over all workers. All stop after the same step if
    their shards are equally long: each takes a step only when it has the rows of the largest share. What is left then
    is dropped.

    Args:
        tables: the shard.
        batch_size: B, rows of a global batch.
        rank: r, of the worker.
        world: W, workers.
        skip: steps that are passed over.
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
