"""`mgc labels WORD LABELS`: what looks after a labels table: history, diff, rollback, vacuum, export, show."""

from __future__ import annotations

import collections

import click

from cluster.labels.diff import diff, track_rows
from cluster.labels.export import CSV, PARQUET, export
from cluster.labels.history import commits, find_version, open_version, rollback, vacuum
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc.units import format_bytes
from pipelines.command.console import open_console
from pipelines.command.job import URI, Summary, main, say
from pipelines.nights.tables import difference_tables, history_table, track_tables

_LIMIT = click.IntRange(1)


class _Words(click.Group):
    """Words in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group("labels", cls=_Words, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Look after a labels table.

    A VERSION is a number of `history`, `latest`, or `latest-1` for the table before its last change, `latest-2` for the
    one before that. Words that print rows take `--limit N`; `mgc labels WORD --help` tells more.
    """
    if ctx.invoked_subcommand is None:
        raise click.UsageError(f"a word is missing: {', '.join(_WORDS)}.")


@command.command("history")
@click.argument("labels", type=URI)
@click.option("--limit", type=_LIMIT, default=20, show_default=True, help="The newest N entries.")
def history(labels: Uri, limit: int) -> Summary:
    """Print the table's versions: when, by what, how many tracks, which model."""
    log = commits(LabelsTable(labels.text))
    open_console().print(history_table(log, str(labels), limit))
    counts = dict(collections.Counter(f"{commit.what}s".replace(" ", "_") for commit in log if commit.changes_rows))
    return Summary("done", {"version": log[0].version, "entries": len(log), **counts}, _outputs(labels))


@command.command("diff")
@click.argument("labels", type=URI)
@click.argument("before", metavar="[A]", default="latest-1")
@click.argument("after", metavar="[B]", default="latest")
@click.option("--limit", type=_LIMIT, default=10, show_default=True, help="Examples of each kind, and flips.")
@click.option("--out", type=URI, help="Write all differences to this file, .csv or .parquet.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def differences(labels: Uri, before: str, after: str, limit: int, out: Uri | None, overwrite: bool) -> Summary:
    """Print what differs between versions A and B, by default over the last change of the table.

    Counts; flips from genre to genre; and examples with the confidence before and after.
    """
    kind = CSV if out is not None and out.text.lower().endswith(".csv") else PARQUET
    if out is not None and kind == PARQUET and not out.text.lower().endswith((".parquet", ".pq")):
        raise click.BadParameter(f"{out} ends neither in .parquet nor in .csv.", param_hint="--out")
    where, log = str(labels), commits(LabelsTable(labels.text))
    first, second = (find_version(text, log, where) for text in (before, after))
    found = diff(labels.text, first, second, limit, out.text if out else None, kind, overwrite)
    open_console().print(difference_tables(found, first, second, where, limit))
    outputs = _outputs(labels)
    if out is not None:
        outputs["differences"] = str(out)
        say(f"{found.written} differences -> {out}")
    return Summary("done", {"before": first, "after": second, **found.counts}, outputs)


@command.command("rollback")
@click.argument("labels", type=URI)
@click.argument("version")
@click.option("--dry-run", is_flag=True, help="Only say what would differ.")
@click.option("--limit", type=_LIMIT, default=10, show_default=True, help="Examples that --dry-run prints.")
def roll_back(labels: Uri, version: str, dry_run: bool, limit: int) -> Summary:
    """Make the table equal to VERSION again, by a new commit.

    No version is lost by it, so that a rollback can be rolled back. A label run that was planned before is refused when
    it comes to commit; the next one plans against what is there then.
    """
    where, log = str(labels), commits(LabelsTable(labels.text))
    target = find_version(version, log, where)
    if dry_run:
        rollback(labels.text, target, log, dry_run=True)
        found = diff(labels.text, log[0].version, target, limit)
        open_console().print(difference_tables(found, log[0].version, target, where, limit))
        return Summary("dry_run", {"from": log[0].version, "to": target, **found.counts}, _outputs(labels))
    made = rollback(labels.text, target, log)
    say(f"{where} is as in version {target} again (version {made}); the next label run goes on from there.")
    return Summary("done", {"from": log[0].version, "to": target, "version": made}, _outputs(labels))


@command.command("vacuum")
@click.argument("labels", type=URI)
@click.option(
    "--keep", type=click.IntRange(1), required=True, help="Changes of the table, the last included, to keep readable."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--limit", type=_LIMIT, default=10, show_default=True, help="Files to name.")
def clean(labels: Uri, keep: int, dry_run: bool, limit: int) -> Summary:
    """Delete the files that only older versions need. Runs that are at work lose nothing."""
    done = vacuum(labels.text, keep, dry_run)
    for name in done.files[:limit]:
        click.echo(name)
    if len(done.files) > limit:
        click.echo(f"… and {len(done.files) - limit} more")
    verb = "would be deleted" if dry_run else "deleted"
    say(
        f"{len(done.files)} files, {format_bytes(done.size_bytes)} {verb}; "
        f"versions from {done.oldest} on stay readable -> {labels}"
    )
    counts = {"files": len(done.files), "bytes": done.size_bytes, "oldest_version": done.oldest}
    return Summary("dry_run" if dry_run else "done", counts, _outputs(labels))


@command.command("export")
@click.argument("labels", type=URI)
@click.option("--format", "kind", type=click.Choice([PARQUET, CSV]), default=PARQUET, show_default=True)
@click.option("--out", type=URI, required=True, help="The file to write, local or s3://.")
@click.option("--version", default="latest", show_default=True, help="Which version.")
@click.option("--limit", type=_LIMIT, help="Only N of the rows.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def snapshot(labels: Uri, kind: str, out: Uri, version: str, limit: int | None, overwrite: bool) -> Summary:
    """Write a version as one plain file, for readers without Delta; tracks gone from the catalog are left out.

    In a CSV file `top_k` and `genres` are JSON text, and times are UTC. The file is complete or absent.
    """
    number = find_version(version, commits(LabelsTable(labels.text)), str(labels))
    rows = export(open_version(labels.text, number), kind, out.text, limit, overwrite)
    say(f"{rows} tracks of version {number} -> {out}")
    return Summary("done", {"version": number, "rows": rows}, {**_outputs(labels), "export": str(out)})


@command.command("show")
@click.argument("labels", type=URI)
@click.argument("track")
@click.option("--limit", type=_LIMIT, default=10, show_default=True, help="Changes of its row to look back at.")
def track(labels: Uri, track: str, limit: int) -> Summary:
    """Print the lineage of TRACK: its row, the commit that wrote it, and what earlier versions said."""
    table = LabelsTable(labels.text)
    rows = track_rows(labels.text, track, commits(table), limit)
    open_console().print(track_tables(track, rows, str(labels)))
    return Summary("done", {"version": table.version, "changes": len(rows)}, _outputs(labels))


def _outputs(labels: Uri) -> dict[str, str]:
    return {"labels": str(labels)}


_WORDS = tuple(command.commands)

if __name__ == "__main__":
    main(command)
