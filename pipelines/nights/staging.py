"""Stage the rows of one run or of two: labels, embeddings, or both, which hear each track once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ray.exceptions import RayError

from cluster.labels.beside.run_folder import RunFolder
from cluster.labels.plan import PLAN, Plan
from cluster.labels.runs.format import EMBEDDINGS, LABELS
from cluster.labels.runs.table import RunTable
from cluster.session.counts import ProgressHandle
from cluster.session.profiles import Profile
from cluster.session.progress import watch_progress
from cluster.streams.listening import ListenRequest
from cluster.streams.predicting import stage_answers
from cluster.streams.sinks import Staging
from mgc.bundle import Bundle
from mgc.errors import LabelsError, MgcError
from mgc.labeling.rows import Lineage
from mgc.labeling.throughput import Throughput
from mgc.units import GIB, MAX_FILE_GIB, format_count
from pipelines.command.job import say
from pipelines.models.graphs import graph_for

MOST_PASSES: Final = 3
"""Most passes of a run over tracks whose rows have not arrived."""

TIME_WAS_UP: Final = "The time was up before the first track was heard: begin earlier, or give --until a later time."
"""Alarm of a run that did not reach its first track. Night after night it would do nothing."""

_SECONDS: Final = ("audio_seconds", "heard_seconds", "fetch_seconds", "listen_seconds", "predict_seconds")
"""Sums of the job's counters to keep in `Throughput`."""


@dataclass(frozen=True)
class Share:
    """What a table has to do with the tracks of a run.

    Attributes:
        table: the table.
        plan: its plan.
    """

    table: RunTable
    plan: Plan

    @cached_property
    def run(self) -> RunFolder:
        """The folder of its run."""
        return self.table.run(self.plan)


@dataclass(frozen=True)
class Pace:
    """How far a run goes.

    Attributes:
        until: aware time at which to stop starting tracks; None for no such time.
        max_file_gib: size of the largest file to hear.
    """

    until: datetime | None = None
    max_file_gib: int = MAX_FILE_GIB

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.until is not None and datetime.now(UTC) >= self.until


def stage_all(shares: Sequence[Share], bundle: Bundle, profile: Profile, pace: Pace) -> tuple[Plan, Throughput]:
    """Stage a row for every planned track in each table that lacks it. Keeps rows that an earlier, killed run staged.

    A track that several tables lack is fetched, decoded and predicted once.

    Args:
        shares: one for each table, without two of one format.
        bundle: the model.
        profile: how many tracks at once.
        pace: how far to go.

    Returns:
        The plan of the first table without the tracks that were not reached in time, and the measurements.

    Raises:
        LabelsError: tracks have no row after several passes, and the run had no time at which to stop.
    """
    measured = Throughput()
    missing = [share.run.missing() for share in shares]
    for share, rows in zip(shares, missing, strict=True):
        share.run.freeze()
        total, name = share.plan.todo.num_rows, share.table.form.name
        if 0 < rows.num_rows < total:
            done = total - rows.num_rows
            say(
                f"{name}: an earlier run of this plan finished {done:,} of {format_count(total, 'track')}; going on "
                "from there"
            )
    for _ in range(MOST_PASSES):
        if pace.over or not any(rows.num_rows for rows in missing):
            break
        lacking = [share for share, rows in zip(shares, missing, strict=True) if rows.num_rows]
        measured = measured.plus(_pass(lacking, _union(missing), bundle, profile, pace))
        for share in shares:
            share.table.renew()
        missing = [share.run.missing() for share in shares]
    for share, rows in zip(shares, missing, strict=True):
        if rows.num_rows and not pace.over:
            lack = (
                f"{share.table.uri}: {format_count(rows.num_rows, 'track')} without a row after {MOST_PASSES} passes, "
                f"for example {rows['track_id'][0].as_py()!r}"
            )
            if pace.until is None:
                raise LabelsError(f"{lack}; nothing was committed. Submit the job again.")
            # Workers compare the time with clocks of their own.
            say(f"{lack}; left for the next run. Is the clock of a node ahead?")
    plan = shares[0].plan
    return (plan.without(missing[0]) if missing[0].num_rows else plan), measured


def _pass(shares: Sequence[Share], rows: pa.Table, bundle: Bundle, profile: Profile, pace: Pace) -> Throughput:
    """Hear tracks once, and stage their rows for each table. Returns the measurements."""
    first = shares[0]
    uri = first.run.portion(rows)
    by_format = {share.table.form: share for share in shares}
    labels, embeddings = by_format.get(LABELS), by_format.get(EMBEDDINGS)
    staging = Staging(
        None if labels is None else labels.run.staged_uri,
        None if embeddings is None else embeddings.run.staged_uri,
        None if embeddings is None else _lineage(embeddings.plan),
    )
    hearing = replace(bundle.hearing, max_file_bytes=pace.max_file_gib * GIB)
    began = datetime.now(UTC)
    graph = graph_for(bundle, profile)
    title = "labeling" if labels is not None else "embedding"
    with watch_progress(title, "tracks", rows.num_rows) as progress:
        request = ListenRequest(uri, rows.num_rows, PLAN, hearing, until=pace.until)
        try:
            stage_answers(request, bundle, _lineage(first.plan), staging, profile, progress, graph)
        except (RayError, MgcError):
            # A stream cannot read a damaged portion. The next pass gets another one.
            if not first.run.set_aside_portion(uri):
                raise
        return _measure(progress, began, profile)


def _lineage(plan: Plan) -> Lineage:
    return Lineage(plan.model_id, plan.features_id, plan.key)


def _union(missing: Sequence[pa.Table]) -> pa.Table:
    """Return the tracks that any of the tables lacks, each once, in order of track id.

    Where the tables count other tries of the same bytes, the larger number holds for both.
    """
    rows = pa.concat_tables(missing)
    rows = rows.take(pc.sort_indices(rows, [("track_id", "ascending"), ("tries", "descending")]))
    tracks = rows["track_id"].to_numpy(zero_copy_only=False)
    first = np.ones(len(tracks), bool)
    first[1:] = tracks[1:] != tracks[:-1]
    return rows.filter(pa.array(first))


def _measure(progress: ProgressHandle, began: datetime, profile: Profile) -> Throughput:
    """Return the measurements of a pass."""
    try:
        sums, first = progress.sums()
    except RayError:
        # Missing figures must not fail a night.
        sums, first = {}, None
    now = datetime.now(UTC).timestamp()
    first = now if first is None else first
    return Throughput(
        seconds=now - first,
        startup_seconds=first - began.timestamp(),
        cores=profile.cores,
        gpus=profile.gpus,
        tracks=int(sums.get("tracks", 0)),
        size_bytes=int(sums.get("size_bytes", 0)),
        bytes_read=int(sums.get("bytes_read", 0)),
        **{name: sums.get(name, 0.0) for name in _SECONDS},
    )
