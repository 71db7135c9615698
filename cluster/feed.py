"""The clips of a features table as a stream: those of a split, for training shuffled and balanced.

Axes: B batch, F mel bins, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import ray
import torch
from ray.data import DataIterator, Dataset, FileShuffleConfig

from cluster.epochs import AskEpoch
from cluster.profiles import Profile
from cluster.session import data_context
from cluster.training_plan import TrainingJob
from mgc.datasets.protocols import ProtocolConfig
from mgc.datasets.roster import on_side
from mgc.experiment import Experiment
from mgc.training.loop import Batch
from mgc.training.sampling import Resample
from mgc.training.seeds import derive_seed

SHUFFLE_CLIPS: Final = 4096
"""Clips that all workers together mix before they make batches: 64 MiB of 128 x 128 features."""

_FEED: Final = ["track_id", "clip_index", "genre_top", "features"]


class _Take:
    """Stage: the labelled rows of a split, without its column."""

    def __init__(self, split: str, protocol: ProtocolConfig, only: pc.Expression | None) -> None:
        self._split = split
        self._protocol = protocol
        self._only = only

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = table.filter(on_side(table, self._split, self._protocol))
        return _fed(rows if self._only is None else rows.filter(self._only))


def _fed(table: pa.Table) -> pa.Table:
    """The columns of a feed. An unknown artist is "": a block without any artist is typed like its neighbours."""
    unknown = pa.nulls(table.num_rows, pa.string())
    artists = table["artist_id"].cast(pa.string()) if "artist_id" in table.column_names else unknown
    return table.select(_FEED).append_column("artist_id", artists.fill_null(""))


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
        counts: of the genres, for a training stream: its rows are shuffled by file and repeated for balance,
            differently in each epoch. None for a plain one.
        experiment: protocol, balance and seed.
        only: what else must hold of a row; see `Roster.only`.
        epoch: a handle of `epochs.start`, for a training stream.
    """
    data_context(profile)
    training = experiment.training
    rows: Dataset = ray.data.read_parquet(
        dataset.files,
        filesystem=dataset.filesystem,
        shuffle=FileShuffleConfig(seed=training.seed) if counts else None,
    )
    # No resources are stated: equal ones let Ray fuse these stages and the read into one task.
    rows = rows.map_batches(_Take(split, experiment.protocol, only), batch_format="pyarrow", batch_size=None)
    if counts is None or (training.balance == "natural" and not training.head_epochs):
        return rows
    resample: Any = Resample(training.sampling(counts), training.seed, AskEpoch(epoch))
    return rows.map_batches(resample, batch_format="numpy", batch_size=1024)


def batches(tables: Iterable[pa.Table], job: TrainingJob) -> Iterator[Batch]:
    """Rows of a feed as batches of tensors."""
    index = {name: number for number, name in enumerate(job.taxonomy.names)}
    for table in tables:
        joined = bytearray(b"".join(table["features"].to_pylist()))
        features_BFT = torch.frombuffer(joined, dtype=getattr(torch, job.dtype)).reshape(-1, *job.shape)
        genre_B = torch.tensor([index[name] for name in table["genre_top"].to_pylist()])
        yield Batch(features_BFT, genre_B, table["track_id"].to_pylist())


def training_batches(shard: DataIterator, job: TrainingJob, epoch: int, rank: int, world: int) -> Iterator[Batch]:
    """One worker's batches of an epoch: its share of each step's global batch.

    Args:
        shard: of the training stream.
        job: what is trained.
        epoch: counted from 0; with the seed it decides how clips are mixed.
        rank: of the worker.
        world: workers.
    """
    training = job.experiment.training
    rows = shard.iter_batches(
        batch_size=training.batch_size // world,
        batch_format="pyarrow",
        drop_last=True,
        local_shuffle_buffer_size=SHUFFLE_CLIPS // world,
        local_shuffle_seed=derive_seed(training.seed, epoch) % 2**31,
    )
    return batches(rows, job)
