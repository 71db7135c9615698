"""The clips of a features table as a stream: those of a split, for training in random order and balanced.

Axes: B batch, F mel bins, T frames.
"""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as pads
import ray
from ray.data import Dataset

from cluster.session.connect import data_context
from cluster.session.epoch_counter import AskEpoch
from cluster.session.profiles import Profile
from cluster.streams.clip_source import BLOCK_BYTES, ClipRows
from cluster.streams.feed_rows import FEED, Side
from cluster.streams.order import Order
from cluster.tables.features import columns_of
from mgc.experiment import Experiment
from mgc.training.sampling import Resample


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
