"""Ray Data streams over the rows of a plan: fetch, decode, compute features, write.

A stage of mgc takes and returns a dict of NumPy arrays. Ray's operators pass each other Arrow tables with explicit
types, so a block has the same schema as its neighbours even if one of its columns is empty.

The actors that listen import this file, and each of them decodes in a cell. So this file imports no PyTorch.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset, Datasink

from cluster.session.connect import data_context
from cluster.session.counts import ProgressHandle
from cluster.session.meter import Meter
from cluster.session.profiles import Profile
from cluster.session.software import begin_work
from cluster.storage.fetch import Fetch, FetchConfig
from cluster.storage.uri import Uri
from cluster.streams.order import EpochOrder
from cluster.streams.sinks import FeaturesSink, PlanRows
from cluster.tables.features import FeaturesWriter
from mgc import schema
from mgc.hearing.extract import PATIENCE_SECONDS, Extract
from mgc.hearing.request import Hearing
from mgc.software import Software

LISTEN_BATCH: Final = 8
"""Tracks to fetch together. Their files are in memory at once if they fit."""

HELD_BYTES: Final = 256 * 2**20
"""Most bytes of files in memory at once, except for a single file that is larger. The files are measured as they are
read, because a catalog may state any size."""

LISTENED: Final = pa.schema(
    [
        pa.field("clips", pa.large_binary()),
        pa.field("clip_count", pa.int32()),
        pa.field("clip_starts", pa.list_(pa.float64())),
        *(
            schema.LABELS.field(name)
            for name in ("duration_seconds", "tolerance_seconds", "seconds_listened", "bandwidth_hz")
        ),
        *(schema.LABELS.field(name) for name in ("decoder", "damage", "error_kind", "error_message", "error_offset")),
    ]
)
"""Columns that listening adds to a track's row."""

_CELL_VARIABLES: Final = ("HOME", "LD_LIBRARY_PATH", "NUMBA_CACHE_DIR", "PYTHONHOME", "TMPDIR")
"""Variables that Python and librosa's compiler may need to start. All others stay here, keys of stores among them."""

_TRACKS_PER_LISTENER: Final = 16
"""Tracks for each actor. It takes seconds of CPU to start, so for fewer tracks another one is not worth it."""


@dataclass(frozen=True)
class ListenRequest:
    """The tracks to listen to, and how.

    Attributes:
        plan_uri: Parquet with `schema.CATALOG_REQUIRED`, and other columns that are passed through; None where the rows
            come from memory.
        rows: number of tracks; it decides the size of blocks.
        columns: schema of the plan.
        hearing: front end, windows and decoders.
        patience_seconds: time, plus a second for each MiB, after which a decoder counts as hung.
        until: time after which no track is started; tracks not started have no row.
        order: order of the tracks in each pass; None keeps that of the plan.
        software: software of the driver, which makes the request; workers refuse another.
    """

    plan_uri: Uri | None
    rows: int
    columns: pa.Schema
    hearing: Hearing
    patience_seconds: float = PATIENCE_SECONDS
    until: datetime | None = None
    order: EpochOrder | None = None
    software: Software = field(default_factory=Software.here)


class Listen:
    """Stage: fetch, decode and compute features in one task, so a file's bytes never enter the object store.

    Decoders run in a cell. If one hangs, dies or is taken over, only the file it was reading gets no label.

    Args:
        request: how to listen.
        progress: counters of the job; None counts nothing.

    Raises:
        ResourceError: this process runs other software than the driver.
    """

    def __init__(self, request: ListenRequest, progress: ProgressHandle | None = None) -> None:
        begin_work(request.software)
        self._until = None if request.until is None else request.until.timestamp()
        self._fetch = Fetch(FetchConfig(max_bytes=request.hearing.max_file_bytes), request.hearing.plan)
        environment = {name: os.environ[name] for name in _CELL_VARIABLES if name in os.environ}
        self._extract = Extract(request.hearing, True, request.patience_seconds, environment)
        # Where both have a column, such as the duration, the value from decoding replaces that of the catalog.
        kept = [field for field in request.columns if field.name not in LISTENED.names]
        self._schema = pa.schema([*kept, *LISTENED])
        self._meter = None if progress is None else Meter(progress)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """Return one row per track, or no rows after the `until` time."""
        tables, rows = [self._schema.empty_table()], list[int]()
        parts = self._fetch.in_parts(batch, HELD_BYTES)
        while self._until is None or time.time() < self._until:
            began, started = time.time(), time.monotonic()
            part = next(parts, None)
            if part is None:
                break
            rows += part.rows
            tables.append(self._listen(part.batch, began, time.monotonic() - started))
            # Its files must leave the memory before the next ones come.
            del part
        # The order of the clips of a training does not depend on which files fitted.
        return pa.concat_tables(tables).take(pa.array(np.argsort(rows)))

    def _listen(self, fetched: dict[str, np.ndarray], began: float, fetch_seconds: float) -> pa.Table:
        started = time.monotonic()
        extracted = self._extract(fetched)
        if self._meter is not None:
            seconds = (fetch_seconds, time.monotonic() - started)
            self._meter.count_listened({**fetched, **extracted}, fetched["recording"], began, seconds)
        arrays = [pa.array(extracted[field.name], type=field.type, from_pandas=True) for field in self._schema]
        return pa.table(arrays, schema=self._schema)


def listen_to_plan(request: ListenRequest, profile: Profile, progress: ProgressHandle | None) -> Dataset:
    """Stream the tracks of a plan, decoded and turned into features; one row per track.

    Args:
        request: what to listen to.
        profile: how many tracks at once.
        progress: counters of the job; None counts nothing.
    """
    data_context(profile)
    assert request.plan_uri is not None
    pool = max(2, profile.cores)
    listeners = min(pool, max(1, request.rows // _TRACKS_PER_LISTENER))
    # With small blocks a retry costs little, and a short catalog keeps every core busy.
    block = int(np.clip(request.rows // (pool * 4), LISTEN_BATCH, 64))
    plan = ray.data.read_datasource(
        PlanRows(request.plan_uri, request.order),
        num_cpus=profile.io_cpus,
        override_num_blocks=max(1, -(-request.rows // block)),
    )
    listened: Dataset = plan.map_batches(
        Listen,
        fn_constructor_kwargs={"request": request, "progress": progress},
        batch_size=LISTEN_BATCH,
        batch_format="numpy",
        compute=ActorPoolStrategy(size=listeners),
        num_cpus=profile.decode_cpus,
    )
    return listened


def write_features(
    request: ListenRequest, writer: FeaturesWriter, profile: Profile, progress: ProgressHandle | None
) -> None:
    """Write the features of a plan's tracks. See `listen_to_plan` for the arguments."""
    write_stream(listen_to_plan(request, profile, progress), FeaturesSink(writer), profile)


def write_stream(rows: Dataset, sink: Datasink[int] | Datasink[tuple[int, int]], profile: Profile) -> None:
    """Run a stream into its sink, with at most one task per core at a time.

    The tasks request no CPU. Ray Data grants a stream CPUs by the speed of its stages, rounded down to whole CPUs on
    each node. On small nodes the actors held all of these, so no row was written until they ended.
    """
    rows.write_datasink(sink, ray_remote_args={"num_cpus": 0}, concurrency=profile.cores)
