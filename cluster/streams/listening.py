"""Stages as Ray Data: rows of a plan → fetch, decode, features → predict → rows on disk.

A stage of mgc takes and gives a dict of NumPy arrays. What passes between Ray's operators is Arrow with stated types,
so that a block in which every value of a column is missing has the same schema as its neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, Dataset, Datasink

from cluster.session.connect import data_context
from cluster.session.meter import Meter
from cluster.session.profiles import KEEPS_MEMORY, Profile
from cluster.storage.fetch import Fetch
from cluster.streams.order import Order
from cluster.streams.sinks import FeaturesSink, LabelsSink, PlanRows
from cluster.tables.features import FeaturesWriter
from mgc import schema
from mgc.audio.decode import CASCADE, Decoder
from mgc.bundle import Bundle
from mgc.experiment import Experiment
from mgc.features.extract import PATIENCE_SECONDS, Extract
from mgc.labeling.rows import Lineage, labels_rows

LISTEN_BATCH: Final = 8
"""Tracks fetched together; their files are in memory at once, if they are not too large for that."""

HELD_BYTES: Final = 256 * 2**20
"""Most bytes of files in memory at once, but for a single file that is larger."""

_WORTH_A_PREDICTOR: Final = 256
"""Tracks for which one more actor that predicts is started: it takes seconds of CPU to be ready."""

STAGED_FILES: Final = 64
"""Files that the rows of a run are staged in, about."""

STAGED_ROWS: Final = (64, 4096)
"""Rows of one: few, and a run that is killed does little again; many, and ten million tracks make 2,500 files."""

LISTENED: Final = pa.schema(
    [
        pa.field("clips", pa.large_binary()),
        pa.field("clip_count", pa.int32()),
        pa.field("clip_starts", pa.list_(pa.float64())),
        *(schema.LABELS.field(name) for name in ("duration_seconds", "seconds_listened", "decoder", "damage")),
        *(schema.LABELS.field(name) for name in ("error_kind", "error_message", "error_offset")),
    ]
)
"""What hearing a track adds to its row."""


class Listen:
    """Fetch, decode and features in one place: a file's bytes never enter the object store.

    Decoders work in a child process: one that hangs or dies costs its own file a label, and nothing else.
    """

    def __init__(
        self,
        experiment: Experiment,
        columns: pa.Schema,
        progress: Any = None,
        decoders: Sequence[Decoder] = CASCADE,
        patience_seconds: float = PATIENCE_SECONDS,
        until: datetime | None = None,
    ) -> None:
        self._until = None if until is None else until.timestamp()
        self._fetch = Fetch(plan=experiment.listening)
        self._extract = Extract(experiment.front_end, experiment.listening, decoders, True, patience_seconds)
        # What was heard stands in for what the catalog said, as with the duration.
        kept = [field for field in columns if field.name not in LISTENED.names]
        self._schema = pa.schema([*kept, *LISTENED])
        self._meter = None if progress is None else Meter(progress)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """One row a track in and out; none, when the time is over."""
        parts = [self._listen(part) for part in _parts(batch) if self._until is None or time.time() < self._until]
        return pa.concat_tables(parts) if parts else self._schema.empty_table()

    def _listen(self, batch: dict[str, np.ndarray]) -> pa.Table:
        began, started = time.time(), time.monotonic()
        fetched = self._fetch(batch)
        between, recordings = time.monotonic(), fetched["recording"]
        heard = self._extract(fetched)
        if self._meter is not None:
            seconds = [between - started, time.monotonic() - between]
            self._meter.heard({**batch, **heard}, recordings, began, seconds)
        arrays = [pa.array(heard[field.name], type=field.type, from_pandas=True) for field in self._schema]
        return pa.table(arrays, schema=self._schema)


def _parts(batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The batch in stretches whose files fit into memory together; a larger file is alone."""
    first, held = 0, 0
    for row, size in enumerate(batch["size_bytes"]):
        if row > first and held + size > HELD_BYTES:
            yield {name: values[first:row] for name, values in batch.items()}
            first, held = row, 0
        held += int(size)
    yield {name: values[first:] for name, values in batch.items()}


class Label:
    """Predict, and the rows of the labels table."""

    def __init__(self, bundle: ray.ObjectRef[Bundle], lineage: Lineage, gpu: bool, progress: Any = None) -> None:
        if not gpu:
            torch.set_num_threads(1)
        loaded: Bundle = ray.get(bundle)
        self._predict = loaded.predictor(torch.device("cuda" if gpu else "cpu"))
        self._lineage = lineage
        self._meter = None if progress is None else Meter(progress)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row a track in and out."""
        if not batch.num_rows:
            return schema.LABELS.empty_table()
        started = time.monotonic()
        columns = {name: _objects(batch[name]) for name in batch.column_names}
        rows = labels_rows(self._predict(columns), self._lineage, datetime.now(UTC))
        if self._meter is not None:
            self._meter.decided(rows, time.monotonic() - started)
        return rows


def heard(
    plan_uri: str,
    rows: int,
    columns: pa.Schema,
    experiment: Experiment,
    profile: Profile,
    progress: Any,
    decoders: Sequence[Decoder] = CASCADE,
    patience_seconds: float = PATIENCE_SECONDS,
    until: datetime | None = None,
    order: Order | None = None,
) -> Dataset:
    """Tracks of a plan, fetched, decoded and turned into features; one row a track.

    Args:
        plan_uri: Parquet with `schema.CATALOG_REQUIRED` and what else is to travel.
        rows: how many there are, for the size of blocks.
        columns: those of the plan.
        experiment: front end and listening plan.
        profile: how many at once.
        progress: a handle of `progress.watched`, or None.
        decoders: asked in this order.
        patience_seconds: after so long, and a second more for each MiB, a decoder is taken to hang.
        until: no track is begun after this time; those have no row.
        order: in which tracks come in each pass; None leaves them as they lie.
    """
    data_context(profile)
    pool = max(2, profile.cores)
    # Small blocks: a retry costs little, and a short catalog still keeps every core busy.
    block = int(np.clip(rows // (pool * 4), LISTEN_BATCH, 64))
    plan = ray.data.read_datasource(
        PlanRows(plan_uri, order), num_cpus=profile.io_cpus, override_num_blocks=max(1, -(-rows // block))
    )
    return plan.map_batches(
        Listen,
        fn_constructor_kwargs={
            "experiment": experiment,
            "columns": columns,
            "progress": progress,
            "decoders": decoders,
            "patience_seconds": patience_seconds,
            "until": until,
        },
        batch_size=LISTEN_BATCH,
        batch_format="numpy",
        compute=ActorPoolStrategy(min_size=min(pool, max(1, rows // LISTEN_BATCH)), max_size=pool),
        num_cpus=profile.decode_cpus,
    )


def prepare(
    plan_uri: str,
    rows: int,
    columns: pa.Schema,
    experiment: Experiment,
    writer: FeaturesWriter,
    profile: Profile,
    progress: Any,
) -> None:
    """Write the features of a plan's tracks."""
    tracks = heard(plan_uri, rows, columns, experiment, profile, progress)
    _write(tracks, FeaturesSink(writer), profile)


def label(
    plan_uri: str,
    rows: int,
    columns: pa.Schema,
    bundle: Bundle,
    lineage: Lineage,
    staged_uri: str,
    profile: Profile,
    progress: Any,
    decoders: Sequence[Decoder] = CASCADE,
    patience_seconds: float = PATIENCE_SECONDS,
    until: datetime | None = None,
) -> None:
    """Stage the label rows of a plan's tracks. See `heard` for the arguments."""
    gpu = profile.gpus > 0
    tracks = heard(plan_uri, rows, columns, bundle.experiment, profile, progress, decoders, patience_seconds, until)
    # All of them from the start: a pool that may grow also shrinks, and grows again, and each time PyTorch is imported.
    predictors = min(profile.predict_actors, max(1, rows // _WORTH_A_PREDICTOR))
    labels = tracks.map_batches(
        Label,
        fn_constructor_kwargs={"bundle": ray.put(bundle), "lineage": lineage, "gpu": gpu, "progress": progress},
        batch_size=32,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=predictors, max_size=profile.predict_actors),
        num_cpus=profile.predict_cpus,
        num_gpus=profile.gpus / profile.predict_actors if gpu else None,
        runtime_env={} if gpu else {"env_vars": KEEPS_MEMORY},
    )
    sink = LabelsSink(staged_uri, int(np.clip(rows // STAGED_FILES, *STAGED_ROWS)))
    _write(labels, sink, profile)


def _write(rows: Dataset, sink: Datasink[Any], profile: Profile) -> None:
    """Run the stream into its sink, no more tasks at once than there are cores.

    They ask for no CPU. What Ray Data grants a stream follows from how fast its stages are and is cut to whole CPUs on
    each node: on small nodes that was what the actors held and nothing more, and no row was written before they ended.
    """
    rows.write_datasink(sink, ray_remote_args={"num_cpus": 0}, concurrency=profile.cores)


def _objects(column: pa.ChunkedArray) -> np.ndarray:
    """A column as the stages of mgc take it.

    Numbers as numbers, everything else as objects with None where nothing is.
    """
    if pa.types.is_integer(column.type) and not column.null_count:
        numbers: np.ndarray = column.to_numpy()
        return numbers
    if pa.types.is_floating(column.type):
        return np.array([np.nan if value is None else value for value in column.to_pylist()], dtype=np.float64)
    objects = np.empty(len(column), dtype=object)
    objects[:] = column.to_pylist()
    return objects
