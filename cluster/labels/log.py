"""The log of the labels table: what mgc writes into it under which names, and what is found there."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable

from cluster.storage.uri import Uri
from mgc.errors import LabelsError

APPLICATION: Final = "mgc-label"
"""Name of mgc's transactions in a table's log."""

RUN_ID: Final = "mgc.run_id"
"""Key under which a run's commit names the run."""

RUN_FACTS: Final = "mgc.run"
"""Key under which a commit describes its run: JSON with `counts` and what the job measured."""

ATTEMPT: Final = "mgc.attempt"
"""Key under which a commit names the attempt that made it."""

RESUMED: Final = "mgc.resumed"
"""Key of a run that entered again what rollbacks before it undid."""

ROLLBACK_FACTS: Final = "mgc.rollback"
"""Key under which a rollback describes itself, as JSON."""

VACUUM_FACTS: Final = "mgc.vacuum"
"""Key under which a vacuum describes itself, as JSON."""

_RECENT: Final = 50
"""Entries to search for an attempt. It has just been made."""

Entry = Mapping[str, object]
"""An entry of the log, as deltalake gives it."""


def version_of(table: DeltaTable | None, attempt: str) -> int | None:
    """Return the version that an attempt to commit made, or None if it made none."""
    history: Sequence[Entry] = [] if table is None else table.history(_RECENT)
    return next((number(entry) for entry in history if entry.get(ATTEMPT) == attempt), None)


def number(entry: Entry) -> int:
    """Return the version that an entry of the log made."""
    return int(str(entry["version"]))


def data_files(table: DeltaTable) -> set[str]:
    """Return the names of the files that hold a version's rows."""
    return {str(name) for name in table.get_add_actions(flatten=True).column("path").to_pylist()}


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


def delta_uri(uri: Uri) -> str:
    """Return the URI in the form that deltalake needs. With some characters it would fail, or open another place."""
    name = uri.text if uri.is_remote else uri.path
    odd = re.search(r"[%#?\[\]\\^|\x00-\x1f\ud800-\udfff]", name)
    if odd:
        raise LabelsError(
            f"{uri}: a Delta table cannot lie in a folder with {odd[0]!r} in its name; choose another folder."
        )
    # deltalake would leave them out, and open another place than everything else.
    if uri.is_remote and {"", ".", ".."} & set(uri.key.split("/") if uri.key else ()):
        raise LabelsError(
            f"{uri}: a part of this key is empty, '.' or '..', which a Delta table cannot have; choose another folder."
        )
    return name
