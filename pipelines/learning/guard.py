"""Stop a run of `mgc learn` before it takes labels away that the last one gave."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.parquet import reading
from mgc.errors import LabelsError
from mgc.labeling.guard import Breach, GuardLimits, Outlook, find_breaches

ACCEPTABLE: Final = ("removed", "stale")
"""Checks that a person may accept: tracks that left the source, and tracks that are there and lose their label."""


def find_losses(
    before: Uri, tracks: pa.Array, unlabelled: pa.Array | None = None, accepted: Collection[str] = ()
) -> list[Breach]:
    """Return why new labels must not replace those of the last run; [] if they may.

    The limits are those of `mgc label`.

    Args:
        before: labels of the last run, rows of `labels.LABELS`. Where there are none, or damaged ones, nothing is lost.
        tracks: ids of all tracks of now.
        unlabelled: ids of those that have no label; None if that is not known yet.
        accepted: names of `ACCEPTABLE`.
    """
    if not files.exists(before):
        return []
    try:
        with reading(before, "", LabelsError):
            rows = pq.read_table(io.BytesIO(files.read_bytes(before)), columns=["track_id", "genre_top"])
    except LabelsError:
        return []
    labelled = rows.filter(pc.is_valid(rows["genre_top"]))["track_id"].cast(pa.string()).combine_chunks()
    there = pc.is_in(labelled, value_set=tracks)
    lost = pa.array([], pa.string()) if unlabelled is None else unlabelled
    outlook = Outlook(
        labels=len(labelled),
        removed=len(labelled) - (pc.sum(there).as_py() or 0),
        stale=pc.sum(pc.is_in(labelled, value_set=lost)).as_py() or 0,
    )
    return [breach for breach in find_breaches(outlook, GuardLimits(), accepted) if breach.name in ACCEPTABLE]


def describe_losses(breaches: Sequence[Breach], out: Uri) -> str:
    """Return one line: why the run stopped, and what to do."""
    reasons = "; ".join(breach.message for breach in breaches)
    accept = " ".join(f"--accept {breach.name}" for breach in breaches)
    return f"{out}: stopped, the labels are as before: {reasons}. Fix the cause and run again, or add {accept}."
