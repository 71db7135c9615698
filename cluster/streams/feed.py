"""Stream the clips of one split of a features table. For training they come in random order and balanced.

Axes: B batch, F mel bins, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc
import pyarrow.dataset as pads
import ray
from ray.data import Dataset

from cluster.session.connect import data_context
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.streams.clip_source import BLOCK_BYTES, ClipRows
from cluster.streams.feed_rows import FEED, Side
from cluster.streams.order import EpochOrder
from cluster.tables.features import columns_of
from mgc.experiment import Experiment
from mgc.training.sampling import Resample


@dataclass(frozen=True)
class EpochDraw:
    """Changes of a training stream from epoch to epoch.

    Attributes:
        class_counts: number of clips of each genre; it decides how often rows are repeated for balance.
        epoch: counter that seeds the order of the clips and the repeats.
    """

    class_counts: Mapping[str, int]
    epoch: EpochCounter

    def order(self, experiment: Experiment) -> EpochOrder:
        """Return the order of the pieces of a table in each epoch."""
        return EpochOrder(experiment.training.seed, self.epoch.current)

    def resample(self, experiment: Experiment) -> Resample | None:
        """Return how often to repeat each row; None if every row comes once."""
        training = experiment.training
        if training.balance == "natural" and not training.head_epochs:
            return None
        return Resample(training.sampling(dict(self.class_counts)), training.seed, self.epoch.current)


def feed(
    dataset: pads.FileSystemDataset,
    split: str,
    profile: Profile,
    experiment: Experiment,
    only: pc.Expression | None = None,
    draw: EpochDraw | None = None,
) -> Dataset:
    """Stream the clips of a split.

    Args:
        dataset: features table.
        split: split to read, as defined by the protocol of the experiment.
        profile: resources of the reading tasks.
        experiment: protocol, balance and seed.
        only: condition that rows must also meet; see `Roster.only`.
        draw: for a training stream, the order and the repeats of each epoch. None reads each row once, in the order of
            the table.

    Returns:
        `track_id`, `clip_index`, `genre_top`, `features`, and `artist_id`, which is "" where unknown.
    """
    data_context(profile)
    columns = list(dict.fromkeys([*columns_of(dataset), *FEED]))
    stage = Side(split, experiment.protocol, only, None if draw is None else draw.resample(experiment))
    source = ClipRows(dataset, columns, stage, None if draw is None else draw.order(experiment))
    # The number of blocks follows from the tasks and BLOCK_BYTES. Asking Ray for more blocks makes them smaller.
    at_once = min(max(2, profile.cores), max(1, source.tasks))
    rows: Dataset = ray.data.read_datasource(
        source, num_cpus=profile.io_cpus, concurrency=at_once, override_num_blocks=1
    )
    # This applies to this stream only.
    rows.context.target_max_block_size = BLOCK_BYTES
    return rows
