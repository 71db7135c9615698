"""What a run of the label job has to do: the catalog compared with the labels table, in one pass of a query."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.labels.overrides import OVERRIDES
from cluster.tables.duckdb import open_duckdb
from mgc import schema
from mgc.configuration import short_hash
from mgc.errors import LabelsError
from mgc.labeling.retries import MOST_TRIES, worth_another_try

Gone = Literal["keep", "mark", "prune"]
"""What becomes of rows whose track is no longer in the catalog: left alone, given a `removed_at`, or deleted."""

PLAN: Final = pa.schema(
    [
        *(schema.CATALOG.field(name) for name in schema.CATALOG_REQUIRED),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("tries", pa.int32(), nullable=False),
    ]
)
"""One row a track to label. `reason`: new, changed, stale, retry. `tries`: the failed ones before a retry, else 0."""

REASONS: Final = ("up_to_date", "new", "changed", "stale", "retry", "waiting", "removed")
"""What may be said of a track. `waiting`: quarantined, and its time has not come."""

TODO: Final = ("new", "changed", "stale", "retry")

TRACK_ID: Final = pa.schema([("track_id", pa.string())])

# The labels' side of the join is what is held in memory, so it is made narrow: of place and content a hash. (A changed
# track whose hash is the same, 1 in 2^64, would be passed over until it changes again.) One text, since a hash of
# several columns is blind to two that swap contents. Every row comes out, but of those that are up to date next to
# nothing does.
_JUDGED: Final = """
    WITH known AS (
        SELECT track_id, hash(concat_ws(chr(31), uri, content_tag)) AS content,
            removed_at IS NOT NULL AS removed,
            model_id <> $model OR features_id <> $features AS stale,
            CASE WHEN error_kind IS NULL THEN 0
                 WHEN $retry_all THEN 2
                 WHEN NOT list_contains($again, error_kind) OR tries >= $most THEN 0
                 WHEN next_try_at > CAST($at AS TIMESTAMPTZ) THEN 1
                 ELSE 2 END AS again,
            tries
        FROM labels
    ), wanted AS (
        SELECT track_id, uri, size_bytes, content_tag, hash(concat_ws(chr(31), uri, content_tag)) AS content
        FROM catalog
    ), judged AS (
        SELECT w.*, k.track_id AS known_id, k.tries AS failed,
            CASE WHEN w.track_id IS NULL THEN CASE WHEN removed AND NOT $prune THEN 7 ELSE 6 END
                 WHEN k.track_id IS NULL OR removed THEN 1
                 WHEN k.content <> w.content THEN 2
                 WHEN stale THEN 3
                 WHEN again = 2 THEN 4
                 WHEN again = 1 THEN 5
                 ELSE 0 END AS verdict
        FROM wanted w FULL JOIN known k ON w.track_id = k.track_id
    )
    SELECT CAST(verdict AS UTINYINT) AS verdict,
        CASE WHEN verdict BETWEEN 1 AND 4 THEN track_id WHEN verdict = 6 THEN known_id END AS track_id,
        CASE WHEN verdict BETWEEN 1 AND 4 THEN uri END AS uri,
        CASE WHEN verdict BETWEEN 1 AND 4 THEN size_bytes END AS size_bytes,
        CASE WHEN verdict BETWEEN 1 AND 4 THEN content_tag END AS content_tag,
        CASE WHEN verdict = 4 THEN failed ELSE 0 END AS tries,
        CASE WHEN verdict < 6 THEN hash(concat_ws(chr(31), track_id, uri, size_bytes, content_tag)) END AS snapshot
    FROM judged
"""

_LONG_GONE: Final = 7
"""Verdict on a row that was marked as removed before: nothing to say."""

_ROWS_AT_ONCE: Final = 100_000


@dataclass(frozen=True)
class Policy:
    """What a night is told to do beyond the new and the changed.

    Attributes:
        gone: what becomes of rows whose track is no longer in the catalog.
        retry_all: try every quarantined track again, whatever its error and however often it failed.
        overrides: a curator's corrections (`OVERRIDES`), which are then exactly those of the table; None leaves those
            that the table has.
    """

    gone: Gone = "mark"
    retry_all: bool = False
    overrides: pa.Table | None = None

    def facts(self) -> dict[str, Any]:
        """What of it determines a plan, as JSON-ready values."""
        digest = None
        if self.overrides is not None:
            digest = hashlib.sha256(repr(self.overrides.to_pylist()).encode()).hexdigest()
        return {"gone": self.gone, "retry_all": self.retry_all, "overrides": digest}


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        todo: rows of `PLAN`, in order of track id.
        removed: ids of tracks that the table has and the catalog no longer, as far as something is to be done.
        corrected: ids of tracks that are not to do, but whose override changes.
        counts: tracks by `REASONS`, and `pending` (left out by a limit), `corrected`, `unknown_overrides` (of tracks
            that neither the table nor the catalog has).
        version: of the table planned against; -1 where there is none yet.
        key: names the run.
        model_id: the model asked for.
        features_id: its front end.
        policy: what it was told.
    """

    todo: pa.Table
    removed: pa.Table
    counts: dict[str, int]
    version: int
    key: str
    model_id: str
    features_id: str
    corrected: pa.Table = field(default_factory=TRACK_ID.empty_table)
    policy: Policy = field(default_factory=Policy)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.todo.num_rows or self.removed.num_rows or self.corrected.num_rows)


@dataclass
class _Judged:
    """The verdicts on all tracks: only what is to be done is kept."""

    todo: pa.Table
    removed: pa.Table
    counts: dict[str, int]
    rows: int
    snapshot: int


def make_plan(
    catalog: pads.Dataset | pa.Table,
    labels: pads.Dataset | pa.Table,
    where: str,
    version: int,
    model_id: str,
    features_id: str,
    options: Mapping[str, Any],
    limit: int | None,
    at: datetime,
    policy: Policy,
) -> Plan:
    """Catalog minus what the labels already hold for the same bytes, model and front end.

    Args:
        catalog: see `LabelsTable.plan`, as for the others below.
        labels: rows of `schema.LABELS`.
        where: they lie, for the message.
        version: of the table that they are.
        model_id: the bundle's id.
        features_id: of its front end.
        options: become part of the key.
        limit: rows of the catalog to look at.
        at: the present, aware: quarantined tracks whose `next_try_at` is later wait.
        policy: what it is told.

    Raises:
        LabelsError: the labels hold a track more than once.
    """
    asked: dict[str, Any] = {"model": model_id, "features": features_id, "most": MOST_TRIES}
    asked |= {"again": worth_another_try(), "retry_all": policy.retry_all, "prune": policy.gone == "prune"}
    total = catalog.count_rows() if isinstance(catalog, pads.Dataset) else catalog.num_rows
    considered = total if limit is None else min(limit, total)
    with open_duckdb() as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.register("all_tracks", catalog)
        connection.register("labels", labels)
        # Of a catalog that is in order already this takes the beginning.
        part = "" if limit is None else f"ORDER BY track_id LIMIT {limit}"
        connection.execute(
            f"CREATE TEMP VIEW catalog AS SELECT {', '.join(schema.CATALOG_REQUIRED)} FROM all_tracks {part}"
        )
        judged = _judge(connection, asked | {"at": at.isoformat()}, limit is None and policy.gone != "keep")
        if judged.rows != considered:
            raise LabelsError(
                f"{where}: the labels table holds a track more than once, which no run of mgc leaves behind; restore a "
                "version from before, or choose another --labels."
            )
        connection.register("todo", judged.todo)
        connection.register("removed", judged.removed)
        corrected, unknown = _corrections(connection, policy)
    counts = judged.counts | {"pending": total - considered}
    counts |= {"corrected": corrected.num_rows, "unknown_overrides": unknown}
    snapshot = [considered, judged.snapshot]
    key = short_hash([schema.FORMAT_VERSION, *snapshot, asked, policy.facts(), version, dict(options)])
    return Plan(judged.todo, judged.removed, counts, version, key, model_id, features_id, corrected, policy)


def plan_rows(table: pa.Table) -> pa.Table:
    """Rows that came out of a query as `PLAN`."""
    return table.select(PLAN.names).cast(PLAN)


def counted(todo: pa.Table) -> dict[str, int]:
    """Tracks to do by reason."""
    found = todo["reason"].value_counts().to_pylist()
    return dict.fromkeys(TODO, 0) | {each["values"]: each["counts"] for each in found}


def _judge(connection: duckdb.DuckDBPyConnection, asked: Mapping[str, Any], removing: bool) -> _Judged:
    """Judge every track, in one pass."""
    verdicts = np.zeros(_LONG_GONE + 1, np.int64)
    snapshot = np.uint64(0)
    todo: list[pa.RecordBatch] = []
    removed: list[pa.RecordBatch] = []
    for batch in _batches(connection, asked):
        verdict = batch["verdict"].to_numpy()
        verdicts += np.bincount(verdict, minlength=_LONG_GONE + 1)
        snapshot ^= np.bitwise_xor.reduce(batch["snapshot"].fill_null(0).to_numpy())
        planned = (verdict >= 1) & (verdict <= len(TODO))
        if planned.any():
            todo.append(batch.filter(pa.array(planned)))
        if removing and (verdict == REASONS.index("removed")).any():
            removed.append(batch.filter(pa.array(verdict == REASONS.index("removed"))).select(["track_id"]))
    counts = {reason: int(verdicts[place]) for place, reason in enumerate(REASONS)}
    if not removing:
        counts["removed"] = 0
    gone = pa.Table.from_batches(removed).cast(TRACK_ID).sort_by("track_id") if removed else TRACK_ID.empty_table()
    rows = int(verdicts[: REASONS.index("removed")].sum())
    return _Judged(_todo(todo), gone, counts, rows, int(snapshot))


def _batches(connection: duckdb.DuckDBPyConnection, asked: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    yield from connection.sql(_JUDGED, params=dict(asked)).to_arrow_reader(_ROWS_AT_ONCE)


def _todo(batches: list[pa.RecordBatch]) -> pa.Table:
    if not batches:
        return PLAN.empty_table()
    table = pa.Table.from_batches(batches)
    reasons = pa.array(REASONS).take(table["verdict"].combine_chunks())
    table = table.append_column("reason", reasons)
    return plan_rows(table.take(pc.sort_indices(table["track_id"])))


def _corrections(connection: duckdb.DuckDBPyConnection, policy: Policy) -> tuple[pa.Table, int]:
    """Tracks not to do whose override changes, and how many overrides are of unknown tracks."""
    if policy.overrides is None:
        return TRACK_ID.empty_table(), 0
    connection.register("overrides", policy.overrides.cast(OVERRIDES))
    # Few rows on one side: the whole table only streams past.
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
    # Rows of both are written anew in any case.
    corrected = connection.sql(
        "FROM changed ANTI JOIN todo USING (track_id) ANTI JOIN removed USING (track_id) ORDER BY track_id"
    )
    unknown = connection.sql(
        "SELECT count(*) FROM overrides ANTI JOIN todo USING (track_id) ANTI JOIN overridden USING (track_id)"
    )
    [(count,)] = unknown.fetchall()
    return corrected.to_arrow_table().cast(TRACK_ID), count


def without(plan: Plan, missing: pa.Table) -> Plan:
    """The plan less the tracks that a run did not reach, which are then pending."""
    todo = plan.todo.filter(pc.invert(pc.is_in(plan.todo["track_id"], missing["track_id"].combine_chunks())))
    counts = plan.counts | counted(todo)
    counts["pending"] += missing.num_rows
    return replace(plan, todo=todo, counts=counts)
