"""The morning after: what a run of `mgc label` did and left, as a page and as JSON beside the table.

Counted by DuckDB over the table as it is now and as it was before the run: one pass over each for all counts, and one
more each for flips, quarantined tracks and overrides, where there are any. DuckDB's memory is limited: a join too large
for it, after a change of the model, spills to disk.

`LABELS/_reports/RUN_ID.html` and `.json`, and both again as `latest`. The JSON holds what the page shows; its fields
are listed at `mgc.evaluation.report.report_json`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import duckdb
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.labels.rates import Measured
from cluster.labels.table import LabelsTable, Plan
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import join
from cluster.tables.duckdb import AS_WRITTEN, bounded_duckdb
from cluster.tables.parquet import reading
from mgc import schema
from mgc.bundle import Bundle
from mgc.bundle_facts import describe_model, list_history, list_leaks, read_scores
from mgc.errors import LabelsError
from mgc.evaluation.alarms import Thresholds
from mgc.evaluation.night import (
    CONFIDENCE_BINS,
    Confidence,
    Flip,
    Flips,
    LabelsRun,
    Override,
    Overrides,
    QuarantineRow,
    Throughput,
    TrackCounts,
)
from mgc.evaluation.report import ReportContent, render_report, report_json

QUARANTINE_SHOWN: Final = 200
"""Quarantined tracks listed in a report."""

EXAMPLES: Final = 5
"""Quarantined tracks of each kind named in a report."""

PAIRS_SHOWN: Final = 20
"""Pairs of genres, and examples of them, listed for flips and for overrides."""

_PLANNED: Final = ("new", "changed", "stale")
_AS_COUNTED: Final = ("up_to_date", "pending", "removed", "waiting", "corrected", "unknown_overrides")

# A table of ten million rows becomes a few thousand groups. `tries` counts this one too. A correction makes a track
# that could not be heard `labeled`, and leaves its error.
_GROUPS: Final = f"""
    SELECT run_id = $run AS own, status, genre_top AS genre, error_kind AS kind,
        override_by IS NOT NULL AS overridden, tries = 1 AS first,
        CASE WHEN isfinite(confidence) THEN CAST(
            greatest(0, least({CONFIDENCE_BINS - 1}, floor(confidence * {CONFIDENCE_BINS}))) AS INTEGER) END AS bin,
        count(*) AS tracks, sum(confidence) AS confidence
    FROM labels WHERE removed_at IS NULL GROUP BY ALL
"""

# The run's rows, of which there are few on most nights, are the side that is held in memory; texts of any length are
# hashed there.
_FLIPS: Final = f"""
    WITH mine AS (
        SELECT track_id, genre_top, confidence, hash(content_tag) AS content FROM labels
        WHERE run_id = $run AND status = '{schema.LABELED}' AND override_by IS NULL AND removed_at IS NULL
    ), earlier AS (
        SELECT track_id, genre_top, confidence, hash(content_tag) AS content FROM previous
        WHERE status = '{schema.LABELED}' AND override_by IS NULL AND removed_at IS NULL
    )
    SELECT e.genre_top AS before, m.genre_top AS after, e.content = m.content AS same_bytes, count(*) AS tracks,
        min_by(
            {{'track_id': track_id, 'before': before, 'after': after, 'confidence_before': e.confidence,
              'confidence_after': m.confidence}},
            (-coalesce(least(e.confidence, m.confidence), 0), track_id), {PAIRS_SHOWN}
        ) FILTER (WHERE before <> after) AS examples
    FROM earlier e JOIN mine m USING (track_id) GROUP BY ALL
"""

_QUARANTINED: Final = f"""
    SELECT error_kind AS kind,
        min_by(
            {{'track_id': track_id, 'uri': uri, 'error_kind': error_kind, 'error_message': error_message,
              'earlier': run_id <> $run}},
            (run_id <> $run, track_id), {QUARANTINE_SHOWN}
        ) AS rows
    FROM labels WHERE removed_at IS NULL AND status = '{schema.QUARANTINED}' GROUP BY 1
"""

_OVERRIDES: Final = f"""
    SELECT CASE WHEN error_kind IS NULL THEN top_k[1].genre END AS model_genre, genre_top AS genre, count(*) AS tracks,
        min_by(
            {{'track_id': track_id, 'genre': genre, 'model_genre': model_genre, 'by': override_by,
              'reason': override_reason}},
            track_id, {PAIRS_SHOWN}
        ) AS examples
    FROM labels WHERE removed_at IS NULL AND override_by IS NOT NULL GROUP BY 1, 2
"""


def labels_run(
    table: LabelsTable,
    plan: Plan,
    counts: Mapping[str, Any],
    source: str,
    started: datetime,
    bundle: Bundle,
    measured: Measured | None,
    limits: Thresholds | None = None,
) -> LabelsRun:
    """What a report says about a run and the table that it left.

    Args:
        table: as the run left it.
        plan: of the run.
        counts: tracks by reason, as the run's commit keeps them; what is not in it counts as none.
        source: what was labeled.
        started: when the job began, aware.
        bundle: the model.
        measured: how the stages went; None where nothing went through them.
        limits: thresholds of the alarms.

    Raises:
        LabelsError: the table, or its version before the run, cannot be read.
    """
    labels = table.dataset()
    remedy = "The labels are committed; only the report is missing."
    with reading(table.uri, remedy, LabelsError), bounded_duckdb(AS_WRITTEN) as connection:
        now = _Counted.of(connection, labels, plan.key)
        before = flips = None
        if plan.version >= 0:
            previous = LabelsTable(table.uri, plan.version).dataset()
            before = _Counted.of(connection, previous, plan.key)
            flips = _flips(connection, labels, previous, plan.key)
        quarantine = _quarantine(connection, labels, plan.key) if now.quarantined else {}
        overrides = _overrides(connection, labels) if now.overridden else None
    finished = datetime.now(UTC)
    tracks = {name: int(counts.get(name, 0)) for name in (*_PLANNED, *_AS_COUNTED, "retry")}
    return LabelsRun(
        run_id=plan.key,
        started_at=started.isoformat(timespec="seconds"),
        finished_at=finished.isoformat(timespec="seconds"),
        seconds=(finished - started).total_seconds(),
        catalog_uri=redact(source),
        labels_uri=redact(table.uri),
        table_version=table.version,
        counts=TrackCounts(
            planned=sum(tracks[name] for name in (*_PLANNED, "retry")),
            labeled=now.run_genres.total(),
            quarantined=now.run_quarantined.total(),
            retried=tracks["retry"],
            **{name: tracks[name] for name in (*_PLANNED, *_AS_COUNTED)},
        ),
        genre_counts=_ranked(now.genres),
        training_genre_share=bundle.training.data.genre_share or None,
        quarantine_by_kind=_ranked(now.quarantined),
        quarantine=_rows([row for rows in quarantine.values() for row in rows], QUARANTINE_SHOWN),
        quarantine_total=now.quarantined.total(),
        run_genre_counts=_ranked(now.run_genres),
        previous_version=None if before is None else plan.version,
        previous_genre_counts=None if before is None else _ranked(before.genres),
        first_tries=_ranked(now.first_tries),
        run_quarantine_by_kind=_ranked(now.run_quarantined),
        quarantine_examples={kind: _rows(quarantine[kind], EXAMPLES) for kind in _ranked(now.quarantined)},
        throughput=_throughput(measured) if measured is not None and measured.tracks else None,
        confidence=now.confidence,
        run_confidence=now.run_confidence,
        previous_confidence=None if before is None else before.confidence,
        flips=flips,
        overrides=overrides,
        limits=limits or Thresholds(),
    )


def write_report(labels: str, run: LabelsRun, bundle: Bundle, notices: Sequence[str]) -> None:
    """The run's page and its JSON, beside the table, under its id and as `latest`.

    Args:
        labels: folder of the labels table.
        run: to be reported.
        bundle: the model.
        notices: shown at the top; repetitions are left out.

    Raises:
        StorageError: a file cannot be written.
    """
    scores, split, description = read_scores(bundle)
    content = ReportContent(
        title=f"Labels of {run.catalog_uri}",
        notices=list(dict.fromkeys(notices)),
        model=describe_model(bundle),
        scores=scores,
        split_name=split,
        split_description=description,
        history=list_history(bundle),
        labels_run=run,
        leaks=list_leaks(bundle),
        kept_epoch=bundle.training.kept_epoch,
    )
    reports = {
        "html": render_report(content),
        "json": json.dumps(report_json(content), indent=2, allow_nan=False) + "\n",
    }
    for name in (run.run_id, "latest"):
        for ending, text in reports.items():
            files.write_bytes(join(labels, "_reports", f"{name}.{ending}"), text.encode())


@dataclass
class _Counted:
    """Counts of one version of the table; those that begin with `run` are of the rows of the run."""

    genres: Counter[str]
    run_genres: Counter[str]
    quarantined: Counter[str]
    run_quarantined: Counter[str]
    first_tries: Counter[str]
    overridden: int
    confidence: Confidence
    run_confidence: Confidence

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, rows: pads.Dataset, run_id: str) -> _Counted:
        connection.register("labels", rows)
        genres, run_genres, quarantined, run_quarantined, first_tries = (Counter[str]() for _ in range(5))
        overridden = 0
        sure: list[dict[str, Any]] = []
        for group in _fetched(connection, _GROUPS, run=run_id):
            own, labeled = group["own"], group["status"] == schema.LABELED
            key, tracks = group["genre"] if labeled else group["kind"], group["tracks"]
            (genres if labeled else quarantined)[key] += tracks
            if own:
                (run_genres if labeled else run_quarantined)[key] += tracks
                if group["first"]:
                    first_tries[group["kind"] or ""] += tracks
            if group["overridden"]:
                overridden += tracks
            elif group["bin"] is not None:
                sure.append(group)
        mine = [group for group in sure if group["own"]]
        return cls(
            genres, run_genres, quarantined, run_quarantined, first_tries, overridden, _sureness(sure), _sureness(mine)
        )


def _sureness(groups: Sequence[Mapping[str, Any]]) -> Confidence:
    counts = [0] * CONFIDENCE_BINS
    for group in groups:
        counts[group["bin"]] += group["tracks"]
    total = math.fsum(group["confidence"] for group in groups)
    return Confidence(tuple(counts), total / sum(counts) if any(counts) else None)


def _flips(connection: duckdb.DuckDBPyConnection, labels: pads.Dataset, previous: pads.Dataset, run_id: str) -> Flips:
    connection.register("labels", labels)
    connection.register("previous", previous)
    groups = _fetched(connection, _FLIPS, run=run_id)
    pairs: Counter[tuple[str, str]] = Counter()
    for group in groups:
        if group["before"] != group["after"]:
            pairs[group["before"], group["after"]] += group["tracks"]
    examples = [Flip(**each) for group in groups for each in group["examples"] or ()]
    return Flips(
        compared=sum(group["tracks"] for group in groups),
        flipped=pairs.total(),
        compared_same_bytes=sum(group["tracks"] for group in groups if group["same_bytes"]),
        flipped_same_bytes=sum(
            group["tracks"] for group in groups if group["same_bytes"] and group["before"] != group["after"]
        ),
        pairs=_ranked_pairs(pairs),
        examples=sorted(
            examples,
            key=lambda flip: (-min(flip.confidence_before or 0.0, flip.confidence_after or 0.0), flip.track_id),
        )[:PAIRS_SHOWN],
    )


def _quarantine(
    connection: duckdb.DuckDBPyConnection, labels: pads.Dataset, run_id: str
) -> dict[str, list[dict[str, Any]]]:
    # Texts are compared by DuckDB: see `_connection`.
    connection.register("labels", labels.filter(pc.field("error_kind").is_valid()))
    return {group["kind"]: group["rows"] for group in _fetched(connection, _QUARANTINED, run=run_id)}


def _rows(quarantined: Sequence[dict[str, Any]], most: int) -> list[QuarantineRow]:
    """The first so many tracks, those of the run before earlier ones."""
    ranked = sorted(quarantined, key=lambda row: (row["earlier"], row["track_id"]))[:most]
    names = [field.name for field in dataclasses.fields(QuarantineRow)]
    return [QuarantineRow(**{name: row[name] or "" for name in names}) for row in ranked]


def _overrides(connection: duckdb.DuckDBPyConnection, labels: pads.Dataset) -> Overrides:
    # `top_k` is wide, corrections are few: most files have none, as their statistics say.
    connection.register("labels", labels.filter(pc.field("override_by").is_valid()))
    groups = _fetched(connection, _OVERRIDES)
    pairs: Counter[tuple[str, str]] = Counter()
    examples: list[Override] = []
    agreed = unanswered = 0
    for group in groups:
        if group["model_genre"] == group["genre"]:
            agreed += group["tracks"]
            continue
        examples += [Override(**each) for each in group["examples"]]
        if group["model_genre"] is None:
            unanswered += group["tracks"]
        else:
            pairs[group["model_genre"], group["genre"]] += group["tracks"]
    return Overrides(
        total=agreed + pairs.total() + unanswered,
        agreed=agreed,
        disagreed=pairs.total(),
        unanswered=unanswered,
        pairs=_ranked_pairs(pairs),
        examples=sorted(examples, key=lambda override: override.track_id)[:PAIRS_SHOWN],
    )


def _fetched(connection: duckdb.DuckDBPyConnection, sql: str, **values: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = connection.sql(sql, params=values).to_arrow_table().to_pylist()
    return rows


def _ranked(counts: Counter[str]) -> dict[str, int]:
    """Most frequent first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _ranked_pairs(pairs: Counter[tuple[str, str]]) -> list[tuple[str, str, int]]:
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [(before, after, tracks) for (before, after), tracks in ranked[:PAIRS_SHOWN]]


def _throughput(measured: Measured) -> Throughput:
    return Throughput(**{field.name: getattr(measured, field.name) for field in dataclasses.fields(Throughput)})
