"""Plan a run of the label job. One query compares the catalog with the labels table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.labels.counts import PlanCounts
from cluster.labels.overrides import OVERRIDES
from cluster.labels.policy import Policy
from cluster.labels.verdicts import ALL_COMPARED, JUDGED, TODO, WITHOUT_HELD, Verdict
from cluster.storage.listing.facts import Unseen
from cluster.tables.duckdb import open_duckdb
from mgc import schema
from mgc.configuration import short_hash
from mgc.errors import LabelsError
from mgc.labeling.retries import LONGEST_WAIT, worth_another_try

PLAN: Final = pa.schema(
    [
        *(schema.CATALOG.field(name) for name in schema.CATALOG_REQUIRED),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("tries", pa.int32(), nullable=False),
    ]
)
"""One row for each track to label. `reason` is one of `TODO`. `tries` counts failed tries before a retry, else 0."""


TRACK_ID: Final = pa.schema([("track_id", pa.string())])

_ROWS_AT_ONCE: Final = 100_000


@dataclass(frozen=True)
class PlanRequest:
    """A request for a plan.

    Attributes:
        model_id: id of the bundle.
        features_id: id of its front end.
        limit: number of catalog rows to look at. With a limit, no track counts as removed.
        options: JSON-ready values of all other options that affect the run; part of the plan's key.
        policy: what the night does beyond labelling new and changed tracks.
        at: present time, aware. Tracks that failed and have a later `next_try_at` wait.
        genres: genres that the bundle can answer; a staged row with another one does not count. () allows any.
        unreadable: places that the catalog's listing could not read (`Survey.unreadable`). No track there counts as
            removed.
    """

    model_id: str
    features_id: str
    limit: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    genres: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The work of a run.

    Attributes:
        todo: rows of `PLAN`, in order of track id.
        removed: ids of tracks that left the catalog and on which the policy acts.
        recorrected: ids of tracks in the table whose correction changes, except those in `removed`.
        counts: tracks by what the plan does with them.
        version: version of the table that the plan is based on; -1 if there is no table yet.
        key: name of the run.
        model_id: id of the bundle.
        features_id: id of its front end.
        policy: what the night does beyond labelling new and changed tracks.
        genres: genres that the bundle can answer; () allows any.
        base: number of the last run or rollback that the plan is based on; -1 if there is no table yet.
        fresh: whether the table has a row for none of the tracks in `todo`, not even of an earlier removal.
    """

    todo: pa.Table
    removed: pa.Table
    counts: PlanCounts
    version: int
    key: str
    model_id: str
    features_id: str
    recorrected: pa.Table = field(default_factory=TRACK_ID.empty_table)
    policy: Policy = field(default_factory=Policy)
    genres: tuple[str, ...] = ()
    base: int = -1
    fresh: bool = False

    @property
    def corrected(self) -> pa.Table:
        """Ids of tracks that are not in `todo` but whose correction changes."""
        return _not_in(self.recorrected, self.todo)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.todo.num_rows or self.removed.num_rows or self.corrected.num_rows)

    def without(self, missing: pa.Table) -> Plan:
        """Return the plan without the tracks that a run did not reach. They count as pending."""
        todo = _not_in(self.todo, missing)
        corrected = _not_in(self.recorrected, todo).num_rows
        pending = self.counts.pending + missing.num_rows
        return replace(
            self, todo=todo, counts=replace(self.counts, **count_todo(todo), pending=pending, corrected=corrected)
        )

    def frozen_as(self, todo: pa.Table) -> Plan:
        """Return the plan with the rows that an earlier submission froze. Tracks that became due later wait."""
        found = count_todo(todo)
        waiting = self.counts.waiting + self.counts.retry - found["retry"]
        corrected = _not_in(self.recorrected, todo).num_rows
        counts = replace(self.counts, **found, waiting=waiting, corrected=corrected)
        return replace(self, todo=todo, counts=counts, fresh=self.fresh and found["new"] == todo.num_rows)


@dataclass(frozen=True)
class _Judged:
    """The verdicts on all tracks.

    Attributes:
        todo: rows of `PLAN`.
        removed: ids of tracks that left the catalog.
        counts: tracks by reason.
        rows: number of catalog rows that the query saw.
        snapshot: hash of those rows, independent of their order.
        known: whether the labels have a row for any of the tracks in `todo`.
    """

    todo: pa.Table
    removed: pa.Table
    counts: dict[str, int]
    rows: int
    snapshot: int
    known: bool


def make_plan(
    catalog: pads.Dataset | pa.Table, labels: pads.Dataset | pa.Table, where: str, version: int, base: int,
    request: PlanRequest, held: pa.Table | None = None,
) -> Plan:  # fmt: skip
    """Return the catalog minus what the labels already hold for the same bytes, model and front end.

    Args:
        catalog: rows of `schema.CATALOG`.
        labels: rows of the table that the plan is for, such as `schema.LABELS`.
        where: place of that table, for messages.
        version: its version.
        base: number of its last run or rollback, see `RunTable.base`.
        request: what the plan is made for.
        held: rows of `cluster.labels.beside.holds.HELD`, which the plan leaves out; None for no rows.

    Raises:
        LabelsError: the labels hold a track more than once.
    """
    limit, policy = request.limit, request.policy
    asked: dict[str, object] = {"model": request.model_id, "features": request.features_id}
    asked |= {"again": worth_another_try(), "retry_all": policy.retry_all, "prune": policy.gone == "prune"}
    total = catalog.count_rows() if isinstance(catalog, pads.Dataset) else catalog.num_rows
    considered = total if limit is None else min(limit, total)
    with open_duckdb(ordered=False) as connection:
        connection.register("all_tracks", catalog)
        connection.register("labels", labels)
        # A catalog is in order of track id, so this takes its beginning.
        part = "" if limit is None else f"ORDER BY track_id LIMIT {limit}"
        connection.execute(
            f"CREATE TEMP VIEW catalog AS SELECT {', '.join(schema.CATALOG_REQUIRED)} FROM all_tracks {part}"
        )
        holding = held is not None and held.num_rows > 0
        if holding:
            connection.register("held_rows", held)
            connection.execute(
                "CREATE TEMP VIEW held AS "
                "SELECT *, hash(concat_ws(chr(31), uri, content_tag)) AS content FROM held_rows"
            )
        # Curators correct labels only.
        corrected_rows = "override_by IS NOT NULL" if "override_by" in labels.schema.names else "FALSE"
        if policy.overrides is not None:
            # A new file replaces all corrections, also those that spared rows until now.
            connection.register("given", policy.overrides)
            corrected_rows = "track_id IN (SELECT track_id FROM given)"
        query = JUDGED.format(judged=WITHOUT_HELD if holding else ALL_COMPARED, corrected=corrected_rows)
        times = {"at": request.at.isoformat(), "latest": (request.at + LONGEST_WAIT).isoformat()}
        unseen = Unseen(request.unreadable)
        judged = _judge(connection, query, asked | times, limit is None and policy.gone != "keep", unseen)
        if judged.rows != considered:
            raise LabelsError(
                f"{where}: the table holds a track more than once, which no run of mgc leaves behind. Restore an "
                "earlier version, or choose another folder."
            )
        connection.register("todo", judged.todo)
        connection.register("removed", judged.removed)
        recorrected, unknown = _corrections(connection, policy)
    corrected = _not_in(recorrected, judged.todo).num_rows
    counts = PlanCounts(**judged.counts, pending=total - considered, corrected=corrected, unknown_overrides=unknown)
    snapshot = [considered, judged.snapshot]
    # Unreadable places decide what is removed, and the rows of the catalog do not show them.
    options = {**request.options, **({"unreadable": sorted(request.unreadable)} if request.unreadable else {})}
    key = short_hash([schema.FORMAT_VERSION, *snapshot, asked, policy.facts(), base, options])
    found = (judged.todo, judged.removed, counts, version, key, request.model_id, request.features_id)
    return Plan(*found, recorrected, policy, request.genres, base, fresh=not judged.known)


def plan_rows(table: pa.Table) -> pa.Table:
    """Return rows of a query result with the schema `PLAN`."""
    return table.select(PLAN.names).cast(PLAN)


def _not_in(tracks: pa.Table, others: pa.Table) -> pa.Table:
    """Return the rows whose track is not among others."""
    if not (tracks.num_rows and others.num_rows):
        return tracks
    return tracks.filter(pc.invert(pc.is_in(tracks["track_id"], others["track_id"].combine_chunks())))


def count_todo(todo: pa.Table) -> dict[str, int]:
    """Count the tracks to label by reason."""
    found = todo["reason"].value_counts().to_pylist()
    return dict.fromkeys(TODO, 0) | {each["values"]: each["counts"] for each in found}


def _judge(
    connection: duckdb.DuckDBPyConnection, query: str, asked: Mapping[str, object], removing: bool, unseen: Unseen
) -> _Judged:
    """Judge every track in one pass. Keep only rows that need work.

    Args:
        connection: connection with the tables of the query.
        query: the night's query.
        asked: its parameters.
        removing: whether tracks that left the catalog count as removed.
        unseen: which of them may still be there.
    """
    verdicts = np.zeros(len(Verdict), np.int64)
    snapshot = np.uint64(0)
    known = False
    todo: list[pa.RecordBatch] = []
    removed: list[pa.RecordBatch] = []
    for batch in connection.sql(query, params=dict(asked)).to_arrow_reader(_ROWS_AT_ONCE):
        verdict = batch["verdict"].to_numpy()
        verdicts += np.bincount(verdict, minlength=len(Verdict))
        snapshot ^= np.bitwise_xor.reduce(batch["snapshot"].fill_null(0).to_numpy())
        planned = (verdict >= Verdict.NEW) & (verdict <= Verdict.RETRY)
        if planned.any():
            todo.append(batch.filter(pa.array(planned)))
            known = known or pc.any(todo[-1]["known"]).as_py()
        if removing and (verdict == Verdict.REMOVED).any():
            gone = batch.filter(pa.array(verdict == Verdict.REMOVED)).select(["track_id"])
            if unseen:
                gone = gone.filter(pc.invert(pa.array(unseen.of(gone["track_id"].to_pylist()))))
            removed.append(gone)
    unlisted = (Verdict.LONG_REMOVED, Verdict.HELD_REMOVED)
    counts = {each.reason: int(verdicts[each]) for each in Verdict if each not in unlisted}
    if removing:
        counts["held"] += int(verdicts[Verdict.HELD_REMOVED])
    else:
        counts["removed"] = 0
    left = pa.Table.from_batches(removed).cast(TRACK_ID).sort_by("track_id") if removed else TRACK_ID.empty_table()
    counts["unseen"] = counts["removed"] - left.num_rows
    counts["removed"] = left.num_rows
    return _Judged(_todo(todo), left, counts, int(verdicts[: Verdict.REMOVED].sum()), int(snapshot), known)


def _todo(batches: list[pa.RecordBatch]) -> pa.Table:
    if not batches:
        return PLAN.empty_table()
    table = pa.Table.from_batches(batches)
    reasons = pa.array([verdict.reason for verdict in Verdict]).take(table["verdict"].combine_chunks())
    table = table.append_column("reason", reasons)
    return plan_rows(table.take(pc.sort_indices(table["track_id"])))


def _corrections(connection: duckdb.DuckDBPyConnection, policy: Policy) -> tuple[pa.Table, int]:
    """Return the tracks whose correction changes and that stay, and the number of corrections of unknown tracks."""
    if policy.overrides is None:
        return TRACK_ID.empty_table(), 0
    connection.register("overrides", policy.overrides.cast(OVERRIDES))
    # Corrections are few, so they stay in memory while the whole table streams past.
    connection.execute(
        "CREATE TEMP TABLE overridden AS "
        "SELECT track_id, genre_top, override_by, override_reason FROM labels "
        "WHERE override_by IS NOT NULL OR track_id IN (SELECT track_id FROM overrides)"
    )
    changed = connection.sql(
        "SELECT track_id FROM overridden l FULL JOIN overrides o USING (track_id) "
        'WHERE l.track_id IS NOT NULL AND (l.override_by IS DISTINCT FROM o."by" '
        "OR l.override_reason IS DISTINCT FROM o.reason OR (o.track_id IS NOT NULL AND l.genre_top <> o.genre))"
    )
    connection.register("changed", changed.to_arrow_table())
    # The rows of `removed` are rewritten anyway.
    recorrected = connection.sql("FROM changed ANTI JOIN removed USING (track_id) ORDER BY track_id")
    unknown = connection.sql(
        "SELECT count(*) FROM overrides ANTI JOIN todo USING (track_id) ANTI JOIN overridden USING (track_id)"
    )
    [(count,)] = unknown.fetchall()
    return recorrected.to_arrow_table().cast(TRACK_ID), count
