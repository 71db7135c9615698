"""Find the data files that may hold some tracks, by the least and the greatest track id that the table's log states."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import pyarrow as pa
from deltalake import DeltaTable


def files_that_may_hold(table: DeltaTable, tracks: Sequence[pa.ChunkedArray]) -> set[str]:
    """Return the names of the files in which one of the tracks may have its row.

    A file whose range the log does not state counts. A stated range is never too narrow: Delta cuts long texts so that
    the range grows.

    Args:
        table: the table.
        tracks: lists of track ids, each in ascending order.
    """
    actions = table.get_add_actions(flatten=True)
    names = [str(name) for name in actions.column("path").to_pylist()]
    stated = set(actions.schema.names)
    ranges = [
        actions.column(name).to_pylist() if name in stated else [None] * len(names)
        for name in ("min.track_id", "max.track_id")
    ]
    lists = [each.combine_chunks() for each in tracks if len(each)]
    return {
        name
        for name, least, greatest in zip(names, *ranges, strict=True)
        if any(_has_one(each, least, greatest) for each in lists)
    }


def _has_one(tracks: pa.Array, least: str | None, greatest: str | None) -> bool:
    """Return whether one of the tracks lies in a range. Arrow and Python order texts alike."""
    first = 0 if least is None else bisect_left(tracks, least, key=lambda each: each.as_py())
    return first < len(tracks) and (greatest is None or tracks[first].as_py() <= greatest)
