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
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb
import pyarrow.dataset as pads

from cluster.labels.outlook import present_foreseen
from cluster.labels.plan import Plan
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.listing.facts import Survey
from cluster.storage.uri import Uri
from cluster.tables.duckdb import AS_WRITTEN, bounded_duckdb
from cluster.tables.parquet import reading
from mgc.bundle import Bundle
from mgc.bundle_facts import describe_model, list_history, list_leaks, read_scores
from mgc.errors import LabelsError
from mgc.evaluation.alarms import Thresholds
from mgc.evaluation.night import (
    LabelsRun,
    TrackCounts,
)
from mgc.evaluation.report import ReportContent, render_report, report_json
from mgc.labeling.throughput import Throughput
from pipelines.models.choice import Model
from pipelines.nights.counting import (
    EXAMPLES,
    QUARANTINE_SHOWN,
    Counted,
    count_flips,
    count_overrides,
    list_quarantine,
    quarantine_rows,
    ranked,
)


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run for its report that are not in the table.

    Attributes:
        plan: the run's plan, without the tracks that it did not reach.
        source: labelled catalog or source.
        started: start time of the job, aware.
        measured: measurements of the run; None if nothing went through the stages.
        limits: thresholds of the alarms.
        chosen: names of the thresholds that a person has set.
        survey: what the catalog's listing saw besides the tracks; None where it is unknown.
    """

    plan: Plan
    source: Uri
    started: datetime
    measured: Throughput | None = None
    limits: Thresholds = field(default_factory=Thresholds)
    chosen: Sequence[str] = ()
    survey: Survey | None = None


def summarize_run(table: LabelsTable, bundle: Bundle, facts: RunFacts) -> LabelsRun:
    """Return the content of the report on a run and the resulting table.

    Args:
        table: labels table as the run left it.
        bundle: the model.
        facts: other facts about the run.

    Raises:
        LabelsError: the table, or its version before the run, cannot be read.
    """
    remedy = "The labels are committed; only the report is missing."
    with reading(table.uri, remedy, LabelsError), bounded_duckdb(AS_WRITTEN) as connection:
        labels = table.dataset()
        connection.register("labels", labels)
        connection.register("todo", facts.plan.todo)
        previous = LabelsTable(table.uri, facts.plan.version).dataset() if facts.plan.version >= 0 else None
        return _summarize(connection, _Tables(table, labels, previous), bundle, facts)


def summarize_refused(table: LabelsTable, bundle: Bundle, facts: RunFacts, refused: Sequence[str]) -> LabelsRun:
    """Return the content of the report on a run that the guard stopped, with the table that it would have left.

    Args:
        table: labels table, which the run left as it was.
        bundle: the model.
        facts: other facts about the run.
        refused: why the guard stopped the run.

    Raises:
        LabelsError: the table or a staged file cannot be read.
    """
    previous = table.dataset() if table.exists else None
    with table.joined(facts.plan) as connection:
        present_foreseen(connection, facts.plan, datetime.now(UTC))
        run = _summarize(connection, _Tables(table, None, previous), bundle, facts)
    return dataclasses.replace(run, refused=tuple(refused))


@dataclass(frozen=True)
class _Tables:
    """What a report counts.

    Attributes:
        table: labels table after the run.
        labels: its rows; None if they are only in the connection.
        previous: rows before the run; None where there was no table.
    """

    table: LabelsTable
    labels: pads.Dataset | None
    previous: pads.Dataset | None


def _summarize(connection: duckdb.DuckDBPyConnection, tables: _Tables, bundle: Bundle, facts: RunFacts) -> LabelsRun:
    """Count the connection's table `labels`, and compare it with the version before the run."""
    plan, measured = facts.plan, facts.measured
    table, labels, previous = tables.table, tables.labels, tables.previous
    now = Counted.of(connection, "labels", plan.key)
    before = flips = None
    if previous is not None:
        connection.register("previous", previous)
        before = Counted.of(connection, "previous", plan.key)
        flips = count_flips(connection, plan.key)
    quarantine = list_quarantine(connection, labels, plan.key) if now.quarantined else {}
    overrides = count_overrides(connection, labels) if now.overridden else None
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
        genre_counts=ranked(now.genres),
        training_genre_share=bundle.training.data.genre_share or None,
        quarantine_by_kind=ranked(now.quarantined),
        quarantine=quarantine_rows([row for rows in quarantine.values() for row in rows], QUARANTINE_SHOWN),
        stale_by_kind=ranked(now.stale),
        quarantine_total=now.quarantined.total(),
        run_genre_counts=ranked(now.run_genres),
        previous_version=None if before is None else plan.version,
        previous_genre_counts=None if before is None else ranked(before.genres),
        first_tries=ranked(now.first_tries),
        run_quarantine_by_kind=ranked(now.run_quarantined),
        quarantine_examples={kind: quarantine_rows(quarantine[kind], EXAMPLES) for kind in ranked(now.quarantined)},
        throughput=measured if measured is not None and measured.tracks else None,
        confidence=now.confidence,
        run_confidence=now.run_confidence,
        previous_confidence=None if before is None else before.confidence,
        flips=flips,
        overrides=overrides,
        limits=facts.limits,
        chosen=facts.chosen,
        passed_over=None if facts.survey is None else ranked(facts.survey.passed_over),
        unreadable=() if facts.survey is None else facts.survey.unreadable,
    )


def report_uri(labels: Uri, name: str, ending: str) -> Uri:
    """Return the place of a report.

    Args:
        labels: folder of the labels table.
        name: id of the run, or `latest`.
        ending: `html` or `json`.
    """
    return labels / "_reports" / f"{name}.{ending}"


def write_report(labels: Uri, run: LabelsRun, model: Model, notices: Sequence[str]) -> Uri:
    """Write the run's page and its JSON into the table's folder, under the run's id and as `latest`.

    Adds `-refused` to both names for a run that the guard stopped. Returns the URI of the page.

    Args:
        labels: folder of the labels table.
        run: the run to report.
        model: the bundle, and the genres that a person chose for it.
        notices: notices at the top of the page; repeated ones are left out.

    Raises:
        StorageError: a file cannot be written.
    """
    bundle = model.bundle
    scores, split, description = read_scores(bundle)
    content = ReportContent(
        title=f"Labels of {run.catalog_uri}",
        notices=list(dict.fromkeys(notices)),
        model=describe_model(bundle, "" if model.taxonomy is None else str(model.taxonomy)),
        scores=scores,
        split_name=split,
        split_description=description,
        history=list_history(bundle),
        labels_run=run,
        leaks=list_leaks(bundle),
        kept_epoch=bundle.training.kept_epoch,
        of_tags=bundle.tags is not None,
    )
    reports = {
        "html": render_report(content),
        "json": json.dumps(report_json(content), indent=2, allow_nan=False) + "\n",
    }
    refused = "-refused" if run.refused else ""
    for name in (run.run_id, "latest"):
        for ending, text in reports.items():
            files.write_bytes(report_uri(labels, name + refused, ending), text.encode())
    return report_uri(labels, f"latest{refused}", "html")


def _track_counts(plan: Plan, now: Counted) -> TrackCounts:
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
        other_model=counts.other_model,
        retried=counts.retry,
        waiting=counts.waiting,
        corrected=counts.corrected,
        held=counts.held,
        kept=counts.to_label - now.run_genres.total() - now.run_quarantined.total(),
        unknown_overrides=counts.unknown_overrides,
        unseen=counts.unseen,
    )
