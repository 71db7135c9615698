"""Where a stream of tracks begins and where it ends: the rows of a plan, and the sinks that write.

Ray runs these in tasks, whose processes import this file: it needs no PyTorch, which takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray.data import DataContext, Datasink, Datasource, ReadTask
from ray.data.block import BlockMetadata

from cluster import storage
from cluster.tables import FeaturesWriter, open_parquet, write_part
from mgc import schema
from mgc.errors import LabelsError


class PlanRows(Datasource):
    """The rows of a plan, one task a file; Ray cuts what comes of it into as many blocks as are asked for.

    `ray.data.read_parquet` runs tasks of its own (listing, sampling, repartition) that ask for a whole CPU each,
    whatever it is told: on nodes of two CPUs, beside the actors that hold them, those wait for ever.
    """

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri = uri
        self._files = open_parquet(uri, "Submit the job again.", LabelsError).files

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before it is read."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """One a file."""
        unknown = {"num_rows": None, "size_bytes": None, "exec_stats": None}
        return [
            ReadTask(partial(_plan_rows, self._uri, file), BlockMetadata(input_files=(file,), **unknown))
            for file in self._files
        ]


def _plan_rows(uri: str, file: str) -> list[pa.Table]:
    return [pq.read_table(file, filesystem=storage.locate(uri).filesystem, partitioning=None)]


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
        features = self._clips(heard.filter(heard["error_kind"].is_null()))
        self._writer.write(features, rejects)
        return features.num_rows, rejects.num_rows

    def _clips(self, tracks: pa.Table) -> pa.Table:
        """One row a clip of one row a track."""
        counts = tracks["clip_count"].to_numpy()
        index = pa.array(np.repeat(np.arange(tracks.num_rows), counts))
        joined = memoryview(b"".join(tracks["clips"].to_pylist()))
        size = self._writer.clip_bytes
        clips = [joined[start : start + size] for start in range(0, len(joined), size)]
        return pa.table(
            {
                "track_id": tracks["track_id"].take(index),
                "content_tag": tracks["content_tag"].take(index),
                "clip_index": pa.array(np.concatenate([np.arange(count) for count in counts]), pa.int32()),
                "start_seconds": pa.array(
                    [second for starts in tracks["clip_starts"].to_pylist() for second in starts], pa.float64()
                ),
                "features": pa.array(clips, pa.binary()),
                **{name: tracks[name].take(index) for name in schema.TRACK_FACTS},
            }
        ).select(schema.FEATURES.names)
