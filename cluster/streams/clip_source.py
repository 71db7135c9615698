"""Read the clips of a features table as blocks of a stream: in a new order each epoch, and repeated for balance.

Ray's own `read_parquet` shuffles whole files, in an order that depends on how often the plan has run. After a resume,
an epoch would come in a different order. Here the order of the row groups depends only on seed and epoch. A task holds
one part of a row group in memory at a time.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs
from ray.data import DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from cluster.storage.uri import Uri
from cluster.streams.order import EpochOrder
from cluster.tables.features import DAMAGED
from cluster.tables.parquet import CHECKED, FOOTERS_AT_ONCE, place_of, reading
from mgc.errors import FeaturesError
from mgc.training.sampling import Resample

TASK_CLIPS: Final = 1024
"""Fewest clips that a task reads, from as many row groups as needed; also the most that it holds at a time."""

BLOCK_BYTES: Final = 16 * 2**20
"""Target size of a block of clips. Blocks wait in the object store; the workers hold the latest ones in memory."""

Stage = Callable[[pa.Table], Iterator[pa.Table]]
"""Turns rows of the table into rows of the stream."""


@dataclass(frozen=True)
class _Piece:
    """One row group of a file."""

    file: str
    group: int
    rows: int

    @property
    def name(self) -> str:
        """Name that does not depend on the location of the table."""
        return f"{posixpath.basename(self.file)}#{self.group}"


class ClipRows(Datasource):
    """Reads a features table.

    Args:
        dataset: the table.
        columns: columns that `stage` needs.
        stage: function that turns rows of the table into rows of the stream.
        order: order of the row groups; None keeps that of the table.
    """

    def __init__(
        self, dataset: pads.FileSystemDataset, columns: Sequence[str], stage: Stage, order: EpochOrder | None
    ) -> None:
        super().__init__()
        fragments = list(dataset.get_fragments())
        with ThreadPoolExecutor(max_workers=min(FOOTERS_AT_ONCE, max(len(fragments), 1))) as threads:
            groups = list(threads.map(lambda fragment: fragment.row_groups, fragments))
        self._pieces = [
            _Piece(fragment.path, group.id, group.num_rows)
            for fragment, found in zip(fragments, groups, strict=True)
            for group in found
        ]
        self._read = partial(_read, dataset.filesystem, dataset.schema, list(columns), stage)
        self._order = order

    @property
    def tasks(self) -> int:
        """Approximate number of tasks. It varies a little with the order of the row groups."""
        return len(self._gathered(self._pieces))

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: repeats are drawn at random, so the size is unknown."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """Return the tasks of a pass. Ray asks again for each pass."""
        pieces = self._pieces
        if self._order is not None:
            pieces = [pieces[number] for number in self._order.of([piece.name for piece in pieces])]
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(self._read, part), unknown) for part in self._gathered(pieces)]

    def _gathered(self, pieces: Sequence[_Piece]) -> list[list[_Piece]]:
        gathered: list[list[_Piece]] = []
        rows = TASK_CLIPS
        for piece in pieces:
            if rows >= TASK_CLIPS:
                gathered.append([])
                rows = 0
            gathered[-1].append(piece)
            rows += piece.rows
        return gathered


def _read(
    filesystem: pa.fs.FileSystem, columns: pa.Schema, names: list[str], stage: Stage, pieces: Sequence[_Piece]
) -> Iterator[pa.Table]:
    for piece in pieces:
        fragment = CHECKED.make_fragment(piece.file, filesystem, row_groups=[piece.group])
        scanner = fragment.scanner(
            schema=columns, columns=names, batch_size=TASK_CLIPS, batch_readahead=1, fragment_readahead=1
        )
        for batch in _batches(scanner, place_of(filesystem, piece.file)):
            yield from stage(pa.Table.from_batches([batch]))


def _batches(scanner: pads.Scanner, place: Uri) -> Iterator[pa.RecordBatch]:
    with reading(place, DAMAGED, FeaturesError):
        yield from scanner.to_batches()


def repeat_rows(rows: pa.Table, resample: Resample) -> Iterator[pa.Table]:
    """Yield rows repeated for balance, in order, at most `TASK_CLIPS` at a time, and at least one table.

    Args:
        rows: table with `genre_top`, `track_id` and `clip_index`.
        resample: how often each row is repeated.
    """
    keys = {name: np.array(rows[name].to_pylist(), dtype=object) for name in ("genre_top", "track_id", "clip_index")}
    index = np.repeat(np.arange(rows.num_rows), resample.repeats(keys))
    # Clips of a rare genre may be repeated a hundred times. In one block they would take gigabytes.
    for start in range(0, max(len(index), 1), TASK_CLIPS):
        yield rows.take(pa.array(index[start : start + TASK_CLIPS]))
