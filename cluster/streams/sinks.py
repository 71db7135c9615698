"""Both ends of a stream of tracks: the rows of a plan, and the sinks that write.

Ray imports this file in the process of each task, so it does not import PyTorch, which takes seconds.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
from ray.data import DataContext, Datasink, Datasource, ReadTask
from ray.data.block import BlockMetadata

from cluster.session.software import begin_work
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.streams.order import EpochOrder
from cluster.tables.features import FeaturesWriter
from cluster.tables.parquet import open_parquet, reading, write_part
from mgc import schema
from mgc.errors import LabelsError
from mgc.labeling.rows import Lineage, embeddings_rows
from mgc.software import Software

_READ_AGAIN: Final = "Submit the job again: it writes the plan anew."


class PlanRows(Datasource):
    """Reads the rows of a plan, one task for each file. Ray splits the result into the requested number of blocks.

    `ray.data.read_parquet` runs tasks of its own (listing, sampling, repartition). Each requests a whole CPU, whatever
    the settings say. On nodes with two CPUs, both held by actors, those tasks would wait forever.

    Args:
        uri: the plan, in sealed files.
        order: order of the rows in each pass; None keeps that of the files.
    """

    def __init__(self, uri: Uri, order: EpochOrder | None = None) -> None:
        super().__init__()
        self._uri = uri
        self._order = order
        self._files = open_parquet(uri, _READ_AGAIN, LabelsError).files

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is unknown before reading."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """Return one task for each file."""
        unknown = {"num_rows": None, "size_bytes": None, "exec_stats": None}
        paths = self._files
        if self._order is not None:
            paths = [paths[number] for number in self._order.of([posixpath.basename(path) for path in paths])]
        return [
            ReadTask(partial(_plan_rows, self._uri, self._order, path), BlockMetadata(input_files=(path,), **unknown))
            for path in paths
        ]


def _plan_rows(uri: Uri, order: EpochOrder | None, path: str) -> list[pa.Table]:
    place = uri / path.removeprefix(uri.path)
    with reading(place, _READ_AGAIN, LabelsError):
        rows = files.read_table(place)
    return [rows if order is None else rows.take(order.of(rows["track_id"].to_pylist()))]


@dataclass(frozen=True)
class Staging:
    """Where a run of one or both tables stages its rows.

    Attributes:
        labels: folder of label rows; None stages none.
        embeddings: folder of embeddings; None stages none.
        embedded: what the embeddings say of their origin; None if there are none.
    """

    labels: Uri | None = None
    embeddings: Uri | None = None
    embedded: Lineage | None = None


class AnswersSink(Datasink[int]):
    """Stages answers as Parquet files, each complete or absent.

    Args:
        staging: folders of the files.
        rows: fewest rows of a file, except the last. A killed run repeats what it has not written.
    """

    def __init__(self, staging: Staging, rows: int) -> None:
        self._staging = staging
        self._rows = rows
        self._software = Software.here()

    @property
    def min_rows_per_write(self) -> int:
        """Number of rows that Ray gathers before it writes a file."""
        return self._rows

    def write(self, blocks: Iterable[pa.Table], ctx: object) -> int:
        """Write the blocks of a task as one file in each folder. Return the number of tracks.

        Raises:
            ResourceError: this process runs other software than the driver.
        """
        begin_work(self._software)
        tables = [block for block in blocks if block.num_rows]
        if tables:
            rows, staging = pa.concat_tables(tables), self._staging
            if staging.labels is not None:
                write_part(staging.labels, rows.select(schema.LABELS.names).cast(schema.LABELS))
            if staging.embeddings is not None and staging.embedded is not None:
                write_part(staging.embeddings, embeddings_rows(rows, staging.embedded))
        return sum(table.num_rows for table in tables)


class FeaturesSink(Datasink[tuple[int, int]]):
    """Writes decoded tracks as features and rejects.

    Args:
        writer: writer of the features table.
    """

    def __init__(self, writer: FeaturesWriter) -> None:
        self._writer = writer
        self._software = Software.here()

    def write(self, blocks: Iterable[pa.Table], ctx: object) -> tuple[int, int]:
        """Write the blocks of a task. Return the number of clips and of rejects.

        Raises:
            ResourceError: this process runs other software than the driver.
        """
        begin_work(self._software)
        tracks = pa.concat_tables([block for block in blocks if block.num_rows] or [pa.table({})])
        if not tracks.num_rows:
            return 0, 0
        failed = tracks["error_kind"].is_valid()
        rejects = tracks.filter(failed).select(schema.REJECTS.names)
        features = clips_of(tracks.filter(tracks["error_kind"].is_null()), self._writer.clip_bytes)
        self._writer.write(features, rejects)
        return features.num_rows, rejects.num_rows


def clips_of(tracks: pa.Table, clip_bytes: int) -> pa.Table:
    """Turn rows of tracks into rows of clips.

    Args:
        tracks: one row per track, from `listen_to_plan`; none of them failed.
        clip_bytes: size of the features of a clip.

    Returns:
        One row per clip, `schema.FEATURES`.
    """
    counts = tracks["clip_count"].to_numpy()
    index = pa.array(np.repeat(np.arange(tracks.num_rows), counts))
    joined = memoryview(b"".join(tracks["clips"].to_pylist()))
    clips = [joined[start : start + clip_bytes] for start in range(0, len(joined), clip_bytes)]
    # The empty array is for a table without tracks.
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
