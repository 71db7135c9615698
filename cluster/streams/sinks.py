"""Where a stream of tracks begins and where it ends: the rows of a plan, and the sinks that write.

Ray runs these in tasks, whose processes import this file: it needs no PyTorch, which takes seconds to import.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray.data import DataContext, Datasink, Datasource, ReadTask
from ray.data.block import BlockMetadata

from cluster.storage.uri import locate
from cluster.streams.order import EpochOrder
from cluster.tables.features import FeaturesWriter
from cluster.tables.parquet import open_parquet, write_part
from mgc import schema
from mgc.errors import LabelsError


class PlanRows(Datasource):
    """The rows of a plan, one task a file; Ray cuts what comes of it into as many blocks as are asked for.

    `ray.data.read_parquet` runs tasks of its own (listing, sampling, repartition) that ask for a whole CPU each,
    whatever it is told: on nodes of two CPUs, beside the actors that hold them, those wait for ever.
    """

    def __init__(self, uri: str, order: EpochOrder | None = None) -> None:
        super().__init__()
        self._uri = uri
        self._order = order
        self._files = open_parquet(uri, "Submit the job again.", LabelsError).files

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before it is read."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """One a file."""
        unknown = {"num_rows": None, "size_bytes": None, "exec_stats": None}
        files = self._files
        if self._order is not None:
            files = [files[number] for number in self._order.of([posixpath.basename(file) for file in files])]
        return [
            ReadTask(partial(_plan_rows, self._uri, self._order, file), BlockMetadata(input_files=(file,), **unknown))
            for file in files
        ]


def _plan_rows(uri: str, order: EpochOrder | None, file: str) -> list[pa.Table]:
    rows = pq.read_table(file, filesystem=locate(uri).filesystem, partitioning=None)
    return [rows if order is None else rows.take(order.of(rows["track_id"].to_pylist()))]


class LabelsSink(Datasink[int]):
    """Stages label rows as Parquet files, each complete or absent.

    Args:
        uri: their folder.
        rows: in a file at least, but for the last: what a killed run has not written yet is done again.
    """

    def __init__(self, uri: str, rows: int) -> None:
        self._uri = uri
        self._rows = rows

    @property
    def min_rows_per_write(self) -> int:
        """Blocks are gathered until they hold so many rows."""
        return self._rows

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> int:
        """Write the blocks of a task as one file; returns its rows."""
        tables = [block.cast(schema.LABELS) for block in blocks if block.num_rows]
        if tables:
            write_part(self._uri, pa.concat_tables(tables))
        return sum(table.num_rows for table in tables)


class FeaturesSink(Datasink[tuple[int, int]]):
    """Writes heard tracks as features and rejects."""

    def __init__(self, writer: FeaturesWriter) -> None:
        self._writer = writer

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> tuple[int, int]:
        """Write the blocks of a task; returns (clips, rejects)."""
        heard = pa.concat_tables([block for block in blocks if block.num_rows] or [pa.table({})])
        if not heard.num_rows:
            return 0, 0
        failed = heard["error_kind"].is_valid()
        rejects = heard.filter(failed).select(schema.REJECTS.names)
        features = clips_of(heard.filter(heard["error_kind"].is_null()), self._writer.clip_bytes)
        self._writer.write(features, rejects)
        return features.num_rows, rejects.num_rows


def clips_of(tracks: pa.Table, clip_bytes: int) -> pa.Table:
    """One row a clip, as `schema.FEATURES`, of one row a track.

    Args:
        tracks: from `heard`, none of which failed.
        clip_bytes: of the features of a clip.
    """
    counts = tracks["clip_count"].to_numpy()
    index = pa.array(np.repeat(np.arange(tracks.num_rows), counts))
    joined = memoryview(b"".join(tracks["clips"].to_pylist()))
    clips = [joined[start : start + clip_bytes] for start in range(0, len(joined), clip_bytes)]
    # With an empty one, for there may be no track.
    numbers = np.concatenate([np.empty(0, np.int32), *(np.arange(count) for count in counts)])
    return pa.table(
        {
            "track_id": tracks["track_id"].take(index),
            "content_tag": tracks["content_tag"].take(index),
            "clip_index": pa.array(numbers, pa.int32()),
            "start_seconds": pa.array(
                [second for starts in tracks["clip_starts"].to_pylist() for second in starts], pa.float64()
            ),
            "features": pa.array(clips, pa.binary()),
            **{name: tracks[name].take(index) for name in schema.TRACK_FACTS},
        }
    ).select(schema.FEATURES.names)
