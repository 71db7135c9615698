"""`mgc label CATALOG-or-SOURCE --labels URI`: label every track that is new or changed, in one commit."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any, Final

import click

from cluster import storage, streams
from cluster.labels_table import PLAN, LabelsTable, Plan
from cluster.profiles import Profile
from cluster.progress import watched
from cluster.session import connect
from cluster.tables import query
from mgc.bundle import DEFAULT, Bundle
from mgc.errors import LabelsError
from mgc.evaluation.report import LabelsRun, QuarantineRow, ReportContent, TrackCounts, render_report
from mgc.labeling.rows import Lineage
from pipelines.catalog import open_tracks
from pipelines.evaluate import bundle_scores, history_rows, model_facts
from pipelines.job import URI, Summary, describe, main, say
from pipelines.train import open_bundle

_MOST_PASSES: Final = 3
"""Times that tracks are run whose rows did not arrive."""

QUARANTINE_SHOWN: Final = 200
"""Quarantined tracks listed in a report."""


def build(
    source: str,
    labels: str,
    bundle_uri: str = DEFAULT,
    profile: Profile | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> Summary:
    """Bring the labels table up to date; connects to Ray when a profile is not given."""
    started = datetime.now(UTC)
    bundle = open_bundle(bundle_uri)
    tracks, notices = open_tracks(source)
    table = LabelsTable(labels)
    plan = table.plan(tracks, bundle.id, bundle.features_id, {"limit": limit}, limit)
    where = storage.redact(labels)
    counts: dict[str, Any] = dict(plan.counts)
    if dry_run:
        size = sum(plan.todo["size_bytes"].to_pylist())
        describe(
            {
                **bundle.experiment.dotted(),
                **counts,
                "to label": plan.todo.num_rows,
                "bytes to read": size,
                "bundle": bundle.id,
            }
        )
        return Summary("dry_run", counts)
    outputs = {"labels": where}
    report = storage.join(labels, "_reports", "latest.html")
    if plan.empty:
        say(f"{where}: all {counts['up_to_date']} tracks are up to date; nothing to label.")
        if storage.exists(report):
            outputs["report"] = storage.redact(report)
        return Summary("partial" if counts["pending"] else "up_to_date", counts, outputs)
    say(
        f"{plan.todo.num_rows} tracks to label ({counts['new']} new, {counts['changed']} changed, "
        f"{counts['stale']} of another model, "
        f"{counts['retry']} to try again), {counts['up_to_date']} up to date, {counts['removed']} gone"
    )
    lineage = Lineage(bundle.id, bundle.features_id, plan.key)
    if plan.todo.num_rows:
        if profile is None:
            with connect() as at:
                _run(table, plan, bundle, lineage, at)
        else:
            _run(table, plan, bundle, lineage, profile)
    version = table.commit(plan, plan.key, datetime.now(UTC))
    run = labels_run(table, plan, source, started, bundle)
    write_report(labels, run, bundle, [*bundle.metrics.get("notices", []), *notices])
    counts |= {"labeled": run.counts.labeled, "quarantined": run.counts.quarantined, "table_version": version}
    say(f"{run.counts.labeled} labeled, {run.counts.quarantined} quarantined -> {where} (version {version})")
    outputs["report"] = storage.redact(report)
    return Summary("partial" if counts["pending"] else "done", counts, outputs)


def _run(table: LabelsTable, plan: Plan, bundle: Bundle, lineage: Lineage, profile: Profile) -> None:
    """Stage a row for every planned track; what an earlier, killed run has staged is kept."""
    plan_uri = table.freeze(plan)
    total = plan.todo.num_rows
    missing = table.missing(plan)
    if 0 < missing.num_rows < total:
        say(
            f"an earlier run of this plan has finished {total - missing.num_rows} of {total} tracks; going on "
            f"from there"
        )
    for number in range(_MOST_PASSES):
        if not missing.num_rows:
            return
        uri = plan_uri if missing.num_rows == total else table.freeze_rest(plan, missing, number)
        with watched("labeling", "tracks", missing.num_rows) as progress:
            streams.label(uri, missing.num_rows, PLAN, bundle, lineage, table.staged_uri(plan), profile, progress)
        missing = table.missing(plan)
    if missing.num_rows:
        raise LabelsError(
            f"{storage.redact(table.uri)}: {missing.num_rows} tracks have no row after {_MOST_PASSES} passes, for "
            f"example "
            f"{missing['track_id'][0].as_py()!r}; nothing was committed. Submit the job again."
        )


def labels_run(table: LabelsTable, plan: Plan, source: str, started: datetime, bundle: Bundle) -> LabelsRun:
    """What a report says about a run and the table that it left."""
    labels = table.dataset()

    def counted(column: str, rows: str) -> dict[str, int]:
        answer = query(
            f"SELECT {column} AS key, count(*) AS n FROM labels WHERE removed_at IS NULL AND {rows} "
            "GROUP BY 1 ORDER BY n DESC, 1",
            labels=labels,
        )
        return dict(zip(answer["key"].to_pylist(), answer["n"].to_pylist(), strict=True))

    statuses = counted("status", f"run_id = '{plan.key}'")
    genre_counts = counted("genre_top", "status = 'labeled'")
    by_kind = counted("error_kind", "status = 'quarantined'")
    rows = query(
        "SELECT track_id, uri, error_kind, error_message FROM labels "
        f"WHERE removed_at IS NULL AND status = 'quarantined' ORDER BY track_id LIMIT {QUARANTINE_SHOWN}",
        labels=labels,
    ).to_pylist()
    finished = datetime.now(UTC)
    return LabelsRun(
        run_id=plan.key,
        started_at=started.isoformat(timespec="seconds"),
        finished_at=finished.isoformat(timespec="seconds"),
        seconds=(finished - started).total_seconds(),
        catalog_uri=storage.redact(source),
        labels_uri=storage.redact(table.uri),
        table_version=table.version,
        counts=TrackCounts(
            planned=plan.todo.num_rows,
            labeled=statuses.get("labeled", 0),
            quarantined=statuses.get("quarantined", 0),
            up_to_date=plan.counts["up_to_date"],
            pending=plan.counts["pending"],
            removed=plan.counts["removed"],
        ),
        genre_counts=genre_counts,
        training_genre_share=bundle.metrics.get("data", {}).get("genre_share"),
        quarantine_by_kind=by_kind,
        quarantine=[QuarantineRow(**row) for row in rows],
    )


def write_report(labels: str, run: LabelsRun, bundle: Bundle, notices: list[str]) -> None:
    """The run's page and its JSON, beside the table, under its id and as `latest`."""
    scores, split, description = bundle_scores(bundle)
    page = render_report(
        ReportContent(
            title=f"Labels of {run.catalog_uri}",
            notices=list(dict.fromkeys(notices)),
            model=model_facts(bundle),
            scores=scores,
            split_name=split,
            split_description=description,
            history=history_rows(bundle),
            labels_run=run,
        )
    )
    facts = {
        "run_id": run.run_id,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seconds": run.seconds,
        "table_version": run.table_version,
        "counts": dataclasses.asdict(run.counts),
        "genre_counts": dict(run.genre_counts),
        "quarantine_by_kind": dict(run.quarantine_by_kind),
    }
    for name in (run.run_id, "latest"):
        storage.write_bytes(storage.join(labels, "_reports", f"{name}.html"), page.encode())
        storage.write_bytes(
            storage.join(labels, "_reports", f"{name}.json"), (json.dumps(facts, indent=2) + "\n").encode()
        )


@click.command("label")
@click.argument("source", metavar="CATALOG-or-SOURCE", type=URI)
@click.option("--labels", type=URI, required=True, help="Folder of the labels table.")
@click.option(
    "--bundle", type=URI, default=DEFAULT, show_default=True, help="Folder of the model; `default` is shipped with mgc."
)
@click.option(
    "--limit", type=click.IntRange(1), help="Only the first N tracks of the catalog; the others stay pending."
)
@click.option("--dry-run", is_flag=True, help="Print the configuration and the plan.")
def command(source: str, labels: str, bundle: str, limit: int | None, dry_run: bool) -> Summary:
    """Label the tracks of a catalog (or of SOURCE, listed now) that are new, changed or labelled by another model.

    The labels table changes in one commit at the end. A killed job goes on where it stopped when it is started again.
    """
    return build(source, labels, bundle, None, limit, dry_run)


if __name__ == "__main__":
    main(command)
