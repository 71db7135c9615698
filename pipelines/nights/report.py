"""Report a night as a page and as JSON: what a run of `mgc label` did, and the resulting table.

DuckDB counts the table as the run left it and as it was before: one pass over each for all counts, and one more for
each of flips, quarantined tracks and overrides, where there are any. DuckDB's memory is limited. After a change of the
model the join of the two versions may not fit, and spills to disk.

The report is written to `LABELS/_reports/RUN_ID.html` and `.json`, and again as `latest`. The JSON holds what the page
shows; `mgc.evaluation.report.report_json` lists its fields.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import duckdb
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.labels.plan import Plan
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
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
    TrackCounts,
)
from mgc.evaluation.report import ReportContent, render_report, report_json
from mgc.labeling.throughput import Throughput

QUARANTINE_SHOWN: Final = 200
"""Number of quarantined tracks that a report lists."""

EXAMPLES: Final = 5
"""Number of quarantined tracks of each kind that a report names."""

PAIRS_SHOWN: Final = 20
"""Number of pairs of genres, and of examples, that a report lists for flips and for overrides."""

Row = dict[str, Any]
"""Values of a query's row by column. Their types differ."""

# A table of ten million rows has a few thousand groups. `tries` includes this run's try. A correction makes a track
# that could not be decoded `labeled`, and keeps its error.
_GROUPS: Final = f"""
    SELECT run_id = $run AS own, status, genre_top AS genre, error_kind AS kind,
        override_by IS NOT NULL AS overridden, tries = 1 AS first,
        CASE WHEN isfinite(confidence) THEN CAST(
            greatest(0, least({CONFIDENCE_BINS - 1}, floor(confidence * {CONFIDENCE_BINS}))) AS INTEGER) END AS bin,
        count(*) AS tracks, sum(confidence) AS confidence
    FROM labels WHERE removed_at IS NULL GROUP BY ALL
"""

# The run's rows, few on most nights, are the side that is held in memory. Texts of any length are hashed there.
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


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run for its report that are not in the table.

    Attributes:
        plan: the run's plan, without the tracks that it did not reach.
        source: labelled catalog or source.
        started: start time of the job, aware.
        measured: measurements of the run; None if nothing went through the stages.
        limits: thresholds of the alarms.
    """

    plan: Plan
    source: Uri
    started: datetime
    measured: Throughput | None = None
    limits: Thresholds = field(default_factory=Thresholds)


def summarize_run(table: LabelsTable, bundle: Bundle, facts: RunFacts) -> LabelsRun:
    """Return the content of the report on a run and the resulting table.

    Args:
        table: labels table as the run left it.
        bundle: the model.
        facts: other facts about the run.

    Raises:
        LabelsError: the table, or its version before the run, cannot be read.
    """
    labels, plan, measured = table.dataset(), facts.plan, facts.measured
    remedy = "The labels are committed; only the report is missing."
    with reading(table.uri, remedy, LabelsError), bounded_duckdb(AS_WRITTEN) as connection:
        now = _Counted.of(connection, labels, plan.key)
        before = flips = None
        if plan.version >= 0:
            previous = LabelsTable(table.uri, plan.version).dataset()
            before = _Counted.of(connection, previous, plan.key)
            flips = _count_flips(connection, labels, previous, plan.key)
        quarantine = _list_quarantine(connection, labels, plan.key) if now.quarantined else {}
        overrides = _count_overrides(connection, labels) if now.overridden else None
    finished = datetime.now(UTC)
    return LabelsRun(
        run_id=plan.key,
        started_at=facts.started.isoformat(timespec="seconds"),
        finished_at=finished.isoformat(timespec="seconds"),
        seconds=(finished - facts.started).total_seconds(),
        catalog_uri=str(facts.source),
        labels_uri=str(table.uri),
        table_version=table.version,
        counts=_track_counts(plan, now),
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
        throughput=measured if measured is not None and measured.tracks else None,
        confidence=now.confidence,
        run_confidence=now.run_confidence,
        previous_confidence=None if before is None else before.confidence,
        flips=flips,
        overrides=overrides,
        limits=facts.limits,
    )


def report_uri(labels: Uri, name: str, ending: str) -> Uri:
    """Return the place of a report.

    Args:
        labels: folder of the labels table.
        name: id of the run, or `latest`.
        ending: `html` or `json`.
    """
    return labels / "_reports" / f"{name}.{ending}"


def write_report(labels: Uri, run: LabelsRun, bundle: Bundle, notices: Sequence[str]) -> None:
    """Write the run's page and its JSON into the table's folder, under the run's id and as `latest`.

    Args:
        labels: folder of the labels table.
        run: the run to report.
        bundle: the model.
        notices: notices at the top of the page; repeated ones are left out.

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
            files.write_bytes(report_uri(labels, name, ending), text.encode())


def _track_counts(plan: Plan, now: _Counted) -> TrackCounts:
    counts = plan.counts
    return TrackCounts(
        planned=counts.to_label,
        labeled=now.run_genres.total(),
        quarantined=now.run_quarantined.total(),
        up_to_date=counts.up_to_date,
        pending=counts.pending,
        removed=counts.removed,
        new=counts.new,
        changed=counts.changed,
        stale=counts.stale,
        retried=counts.retry,
        waiting=counts.waiting,
        corrected=counts.corrected,
        unknown_overrides=counts.unknown_overrides,
    )


@dataclass(frozen=True)
class _Counted:
    """Counts of one version of the table. The fields that begin with `run` count the run's rows."""

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
        """Count the rows of a version."""
        connection.register("labels", rows)
        genres, run_genres, quarantined, run_quarantined, first_tries = (Counter[str]() for _ in range(5))
        overridden = 0
        sure: list[Row] = []
        for group in _fetch(connection, _GROUPS, run=run_id):
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
            genres,
            run_genres,
            quarantined,
            run_quarantined,
            first_tries,
            overridden,
            _confidence(sure),
            _confidence(mine),
        )


def _confidence(groups: Sequence[Row]) -> Confidence:
    counts = [0] * CONFIDENCE_BINS
    for group in groups:
        counts[group["bin"]] += group["tracks"]
    total = math.fsum(group["confidence"] for group in groups)
    return Confidence(tuple(counts), total / sum(counts) if any(counts) else None)


def _count_flips(
    connection: duckdb.DuckDBPyConnection, labels: pads.Dataset, previous: pads.Dataset, run_id: str
) -> Flips:
    connection.register("labels", labels)
    connection.register("previous", previous)
    groups = _fetch(connection, _FLIPS, run=run_id)
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


def _list_quarantine(connection: duckdb.DuckDBPyConnection, labels: pads.Dataset, run_id: str) -> dict[str, list[Row]]:
    """Return some quarantined tracks by kind of error."""
    connection.register("labels", labels.filter(pc.field("error_kind").is_valid()))
    return {group["kind"]: group["rows"] for group in _fetch(connection, _QUARANTINED, run=run_id)}


def _rows(quarantined: Sequence[Row], most: int) -> list[QuarantineRow]:
    """Return the first `most` tracks, those of the run before earlier ones."""
    ranked = sorted(quarantined, key=lambda row: (row["earlier"], row["track_id"]))[:most]
    names = [each.name for each in dataclasses.fields(QuarantineRow)]
    return [QuarantineRow(**{name: row[name] or "" for name in names}) for row in ranked]


def _count_overrides(connection: duckdb.DuckDBPyConnection, labels: pads.Dataset) -> Overrides:
    # `top_k` is wide and corrections are few. Arrow skips files whose statistics show none.
    connection.register("labels", labels.filter(pc.field("override_by").is_valid()))
    groups = _fetch(connection, _OVERRIDES)
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


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str, **values: str) -> list[Row]:
    rows: list[Row] = connection.sql(sql, params=values).to_arrow_table().to_pylist()
    return rows


def _ranked(counts: Counter[str]) -> dict[str, int]:
    """Return the counts, most frequent first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _ranked_pairs(pairs: Counter[tuple[str, str]]) -> list[tuple[str, str, int]]:
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [(before, after, tracks) for (before, after), tracks in ranked[:PAIRS_SHOWN]]
