"""Subcommands of `mgc labels`: print, compare, restore, vacuum and export versions of a labels table."""

from __future__ import annotations

import collections

import click

from cluster.labels.diff import DifferenceFile, diff, find_corrections, track_rows
from cluster.labels.history import commits, find_version, open_version, rollback
from cluster.labels.readers.export import FileKind, export
from cluster.labels.table import LabelsTable
from cluster.labels.vacuum import vacuum
from cluster.storage.redaction import one_line
from cluster.storage.uri import Uri
from mgc.units import format_bytes, format_count
from pipelines.command.console import show
from pipelines.command.job import Summary, say
from pipelines.nights.requests import DiffRequest, ExportRequest, RollbackRequest, VacuumRequest
from pipelines.nights.tables import corrections_table, difference_tables, history_table, track_tables


def show_history(labels: Uri, limit: int) -> Summary:
    """Print the newest commits of a table."""
    log = commits(LabelsTable(labels))
    show(history_table(log, labels, limit))
    counts = dict(collections.Counter(f"{commit.what}s".replace(" ", "_") for commit in log if commit.changes_rows))
    return Summary("done", {"version": log[0].version, "entries": len(log), **counts}, _outputs(labels))


def show_differences(request: DiffRequest) -> Summary:
    """Print the differences between two versions, and write them to a file if one is requested."""
    labels, out = request.labels, None
    if request.out is not None:
        as_csv = request.out.text.lower().endswith(".csv")
        out = DifferenceFile(request.out, _file_kind(as_csv, request.raw), request.overwrite)
    log = commits(LabelsTable(labels))
    before, after = (find_version(text, log, labels) for text in (request.before, request.after))
    found = diff(labels, before, after, request.limit, out)
    show(difference_tables(found, (before, after), labels, request.limit))
    outputs = _outputs(labels)
    if out is not None:
        outputs["differences"] = str(out.uri)
        say(f"{format_count(found.written or 0, 'difference')} -> {out.uri}")
    return Summary("done", {"before": before, "after": after, **found.counts}, outputs)


def roll_back(request: RollbackRequest) -> Summary:
    """Make the table equal to an earlier version, or print what would differ."""
    labels = request.labels
    log = commits(LabelsTable(labels))
    newest, target = log[0].version, find_version(request.version, log, labels)
    if request.dry_run:
        rollback(labels, target, log, dry_run=True)
        found = diff(labels, newest, target, request.limit)
        show(difference_tables(found, (newest, target), labels, request.limit))
        return Summary("dry_run", {"from": newest, "to": target, **found.counts}, _outputs(labels))
    made = rollback(labels, target, log)
    say(
        f"{labels} equals version {target} again (as version {made}). Later runs leave out what this undid, until one "
        "with --resume."
    )
    return Summary("done", {"from": newest, "to": target, "version": made}, _outputs(labels))


def delete_old_files(request: VacuumRequest) -> Summary:
    """Delete the files that only old versions need, and name some of them."""
    done = vacuum(request.labels, request.keep, request.older_than, request.dry_run)
    for name in done.files[: request.limit]:
        click.echo(one_line(name))
    if len(done.files) > request.limit:
        click.echo(f"… and {len(done.files) - request.limit} more")
    verb = "would be deleted" if request.dry_run else "deleted"
    say(
        f"{format_count(len(done.files), 'file')}, {format_bytes(done.size_bytes)} {verb}; versions from {done.oldest} "
        f"on stay readable -> {request.labels}"
    )
    if done.spared is not None:
        say(f"{format_count(done.spared.files, 'younger file')} spared until {done.spared.until:%Y-%m-%d %H:%M} UTC")
    if done.strangers:
        say(
            f"not the table's: {format_count(len(done.strangers), 'file')} below {request.labels}, such as "
            f"{one_line(done.strangers[0])}. Move them elsewhere; until then, what killed runs left stays, too."
        )
    counts = {"files": len(done.files), "bytes": done.size_bytes, "oldest_version": done.oldest}
    counts |= {"spared": 0 if done.spared is None else done.spared.files, "strangers": len(done.strangers)}
    return Summary("dry_run" if request.dry_run else "done", counts, _outputs(request.labels))


def write_version(request: ExportRequest) -> Summary:
    """Write a version as one plain file."""
    labels, out = request.labels, request.out
    number = find_version(request.version, commits(LabelsTable(labels)), labels)
    kind = _file_kind(request.kind == "csv", request.raw)
    rows = export(open_version(labels, number), kind, out, request.limit, request.overwrite)
    say(f"{format_count(rows, 'track')} of version {number} -> {out}")
    return Summary("done", {"version": number, "rows": rows}, {**_outputs(labels), "export": str(out)})


def show_track(labels: Uri, track: str, limit: int) -> Summary:
    """Print the row of a track, and what earlier versions say about it."""
    table = LabelsTable(labels)
    rows = track_rows(labels, track, commits(table), limit)
    show(track_tables(track, rows, labels))
    return Summary("done", {"version": table.version, "changes": len(rows)}, _outputs(labels))


def show_corrections(labels: Uri, limit: int | None) -> Summary:
    """Print the curators' corrections, those of tracks that left the catalog included."""
    table = LabelsTable(labels)
    rows = find_corrections(table)
    total = len(rows)
    show(corrections_table(rows[:limit], total, labels))
    gone = sum(row["removed_at"] is not None for row in rows)
    return Summary("done", {"version": table.version, "corrections": total, "gone": gone}, _outputs(labels))


def _file_kind(as_csv: bool, raw: bool) -> FileKind:
    if not as_csv:
        return "parquet"
    return "raw_csv" if raw else "csv"


def _outputs(labels: Uri) -> dict[str, str]:
    return {"labels": str(labels)}
