"""Training clips of tracks that nobody has prepared: fetched, decoded and turned into features anew in each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import Dataset
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.session.epoch_counter import AskEpoch
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import join
from cluster.streams.clip_source import BLOCK_BYTES
from cluster.streams.feed import side
from cluster.streams.feed_rows import Side
from cluster.streams.listening import heard
from cluster.streams.order import Order
from cluster.streams.sinks import clips_of
from mgc import schema
from mgc.datasets.splits import TRAIN
from mgc.experiment import Experiment

PLAN_ROWS: Final = 65_536
"""Tracks of a file of the plan: a task reads one file."""


class Failed:
    """Tracks that gave no features, and why; as a Ray actor, those of a whole training. Each counts once."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}

    def add(self, kinds: dict[str, str]) -> None:
        """Kinds of error by track id."""
        self._kinds.update(kinds)

    def read(self) -> dict[str, str]:
        """All of them."""
        return self._kinds


def start_failed() -> Any:
    """A handle of a `Failed` that lives as long as the handle, with the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Failed)
    return actor.options(num_cpus=0, scheduling_strategy=here).remote()


class ClipsOfSide:
    """Stage: from heard tracks to the rows of a feed.

    Args:
        clip_bytes: of the features of a clip.
        rows: which of them, and how often.
        failed: a handle of `start_failed`.
    """

    def __init__(self, clip_bytes: int, rows: Side, failed: Any) -> None:
        self._clip_bytes = clip_bytes
        self._rows = rows
        self._failed = failed

    def __call__(self, tracks: pa.Table) -> Iterator[pa.Table]:
        """Clips; none of tracks that failed, which are noted."""
        well = tracks["error_kind"].is_null()
        lost = tracks.filter(tracks["error_kind"].is_valid())
        if lost.num_rows:
            names, kinds = lost["track_id"].to_pylist(), lost["error_kind"].to_pylist()
            self._failed.add.remote(dict(zip(names, kinds, strict=True)))
        yield from self._rows(clips_of(tracks.filter(well), self._clip_bytes))


def write_plan(uri: str, tracks: pa.Table) -> None:
    """Write the tracks to be heard as a few Parquet files; the same ones when it is called again."""
    for number, start in enumerate(range(0, tracks.num_rows, PLAN_ROWS)):
        sink = pa.BufferOutputStream()
        pq.write_table(tracks.slice(start, PLAN_ROWS), sink)
        files.write_bytes(join(uri, f"part-{number:05}.parquet"), sink.getvalue().to_pybytes())


def heard_feed(
    plan_uri: str,
    tracks: int,
    clip_bytes: int,
    profile: Profile,
    counts: dict[str, int],
    experiment: Experiment,
    progress: Any,
    failed: Any,
    epoch: Any,
) -> Dataset:
    """The training clips of a plan's tracks, as `feed` gives those of a features table.

    Args:
        plan_uri: from `write_plan`.
        tracks: how many there are.
        clip_bytes: of the features of a clip.
        profile: how many are decoded at once.
        counts: clips of each genre, about.
        experiment: front end, listening plan, protocol, balance and seed.
        progress: a handle of `progress.watched`, or None.
        failed: a handle of `start_failed`.
        epoch: a handle of `epochs.start`.
    """
    order = Order(experiment.training.seed, AskEpoch(epoch))
    stage = ClipsOfSide(clip_bytes, side(TRAIN, counts, experiment, None, epoch), failed)
    # What is heard at a time decides how many clips wait: the stage behind gets small blocks.
    rows = heard(plan_uri, tracks, schema.CATALOG, experiment, profile, progress, order=order)
    clips: Dataset = rows.map_batches(
        stage, batch_format="pyarrow", batch_size=None, num_cpus=profile.io_cpus, zero_copy_batch=True
    )
    clips.context.target_max_block_size = BLOCK_BYTES
    return clips
