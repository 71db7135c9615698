"""Training clips straight from a catalog, without prepared features: each epoch fetches and decodes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from ray.data import Dataset

from cluster.session.counts import ProgressHandle
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.streams.clip_source import BLOCK_BYTES
from cluster.streams.failed_tracks import FailedTracks
from cluster.streams.feed import EpochDraw
from cluster.streams.feed_rows import ClipsOfSide, Side
from cluster.streams.listening import ListenRequest, listen_to_plan
from mgc import schema
from mgc.datasets.splits import TRAIN
from mgc.experiment import Experiment

PLAN_ROWS: Final = 65_536
"""Tracks in each file of the plan. A task reads one file."""


def write_plan(uri: Uri, tracks: pa.Table) -> None:
    """Write the tracks to listen to as a few Parquet files. A second call writes the same files."""
    for number, start in enumerate(range(0, tracks.num_rows, PLAN_ROWS)):
        files.write_table(uri / f"part-{number:05}.parquet", tracks.slice(start, PLAN_ROWS))


@dataclass(frozen=True)
class CatalogFeed:
    """The tracks that a training on a catalog reads in each epoch, and how.

    Attributes:
        plan_uri: folder that `write_plan` wrote.
        tracks: number of tracks in it.
        clip_bytes: size of the features of a clip.
        experiment: front end, listening plan, protocol, balance and seed.
        draw: how the stream changes from epoch to epoch; its counts may be estimates.
        failed: list to which tracks that failed are added.
    """

    plan_uri: Uri
    tracks: int
    clip_bytes: int
    experiment: Experiment
    draw: EpochDraw
    failed: FailedTracks


def feed_catalog(request: CatalogFeed, profile: Profile, progress: ProgressHandle | None) -> Dataset:
    """Stream the training clips of a plan's tracks, with the columns of `feed`.

    Args:
        request: what to read.
        profile: number of tracks to decode at once.
        progress: counters of the job; None counts nothing.
    """
    experiment, draw = request.experiment, request.draw
    order = draw.order(experiment)
    listen = ListenRequest(request.plan_uri, request.tracks, schema.CATALOG, experiment.hearing, order=order)
    listened = listen_to_plan(listen, profile, progress)
    side = Side(TRAIN, experiment.protocol, None, draw.resample(experiment))
    # Listening works on a few tracks at a time, so the next stage gets small blocks.
    clips: Dataset = listened.map_batches(
        ClipsOfSide(request.clip_bytes, side, request.failed),
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=profile.io_cpus,
        zero_copy_batch=True,
    )
    clips.context.target_max_block_size = BLOCK_BYTES
    return clips
