"""`mgc labels WORD LABELS`: look after a labels table: history, diff, rollback, vacuum, export, show, corrections."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal

import click

from cluster.storage.uri import Uri
from pipelines.command.job import Summary, main
from pipelines.command.options import URI
from pipelines.nights.options import Age
from pipelines.nights.requests import DiffRequest, ExportRequest, RollbackRequest, VacuumRequest

_LIMIT = click.IntRange(1)
_RAW = click.option(
    "--raw",
    is_flag=True,
    help="Write texts of a CSV file as they are, also those that a spreadsheet would run as formulas.",
)


class _Version(click.ParamType[str]):
    """A version of the table: a number, `latest`, or `latest-N`."""

    name = "VERSION"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form of a version. Whether the table has it is seen there."""
        text = str(value)
        if re.fullmatch(r"\d+|latest(-\d+)?", text) is None:
            self.fail(f"{text!r} is not a version; give a number, latest, or latest-1 for the one before.", param, ctx)
        return text


_VERSION = _Version()


class _Words(click.Group):
    """A group that lists its words in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group("labels", cls=_Words, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Look after a labels table.

    A VERSION is a number from `history`, or `latest`, or `latest-1` for the table before its last change, `latest-2`
    for the one before that. Words that print rows take `--limit N`. See `mgc labels WORD --help`.
    """
    if ctx.invoked_subcommand is None:
        raise click.UsageError(f"say what to do, as in `mgc labels history LABELS`: {', '.join(_WORDS)}.")


@command.command("history", short_help="Print the table's versions.")
@click.argument("labels", type=URI)
@click.option("--limit", type=_LIMIT, default=20, show_default=True, help="Newest entries to print.")
def history(labels: Uri, limit: int) -> Summary:
    """Print the table's versions: when, by what, how many tracks, which model."""
    from pipelines.nights.versions import show_history

    return show_history(labels, limit)


@command.command("diff", short_help="Print what differs between two versions.")
@click.argument("labels", type=URI)
@click.argument("before", metavar="[A]", type=_VERSION, default="latest-1")
@click.argument("after", metavar="[B]", type=_VERSION, default="latest")
@click.option("--limit", type=_LIMIT, default=10, show_default=True, help="Examples of each kind, and flips, to print.")
@click.option("--out", type=URI, help="Write all differences to this .csv or .parquet file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@_RAW
def diff(labels: Uri, before: str, after: str, limit: int, out: Uri | None, overwrite: bool, raw: bool) -> Summary:
    """Print what differs between versions A and B; by default what the last change of the table changed.

    Prints counts, flips from genre to genre, and examples with the confidence before and after.
    """
    if out is not None and not out.text.lower().endswith((".csv", ".parquet", ".pq")):
        raise click.BadParameter(f"{out} ends neither in .parquet nor in .csv.", param_hint="--out")
    request = DiffRequest(labels, before, after, limit, out, overwrite, raw)
    from pipelines.nights.versions import show_differences

    return show_differences(request)


@command.command("rollback")
@click.argument("labels", type=URI)
@click.argument("version", type=_VERSION)
@click.option("--dry-run", is_flag=True, help="Only print what would differ.")
@click.option("--limit", type=_LIMIT, default=10, show_default=True, help="Examples that --dry-run prints.")
def rollback(labels: Uri, version: str, dry_run: bool, limit: int) -> Summary:
    """Make the table equal to VERSION again, in a new commit.

    No version is lost, so a rollback can be rolled back. A label run that was planned before is refused at its commit;
    the next run plans anew. What the rollback undid is held: later runs do not label these tracks again until their
    content or the model changes, or until `mgc label --resume`.
    """
    request = RollbackRequest(labels, version, limit, dry_run)
    from pipelines.nights.versions import roll_back

    return roll_back(request)


@command.command("vacuum", short_help="Delete files that only older versions need.")
@click.argument("labels", type=URI)
@click.option(
    "--keep",
    type=click.IntRange(1),
    help="Number of versions to keep readable, whatever their age, counted by changes of rows; the newest is one of "
    "them, and the only one by default.",
)
@click.option(
    "--older-than",
    type=Age(),
    help="Spare the files of versions that were the newest within this time: 7d (the default), 36h, 0 for none.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@click.option("--limit", type=_LIMIT, default=10, show_default=True, help="Files to print.")
def vacuum(labels: Uri, keep: int | None, older_than: timedelta | None, dry_run: bool, limit: int) -> Summary:
    """Delete the files that only older versions need. Runs in progress lose nothing.

    Say with `--keep`, `--older-than` or both which versions stay readable.
    """
    if keep is None and older_than is None:
        raise click.UsageError("say which versions stay readable: --older-than 30d, --keep 30, or both.")
    spared = timedelta(days=7) if older_than is None else older_than
    request = VacuumRequest(labels, keep or 1, spared, limit, dry_run)
    from pipelines.nights.versions import delete_old_files

    return delete_old_files(request)


@command.command("export", short_help="Write a version as one plain file.")
@click.argument("labels", type=URI)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv"]),
    default="parquet",
    show_default=True,
    help="Format of the file.",
)
@click.option("--out", type=URI, required=True, help="File to write, local or s3://.")
@click.option("--version", type=_VERSION, default="latest", show_default=True, help="Version to write.")
@click.option("--limit", type=_LIMIT, help="Write only N of the rows.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@_RAW
def export(
    labels: Uri, kind: Literal["parquet", "csv"], out: Uri, version: str, limit: int | None, overwrite: bool, raw: bool
) -> Summary:
    """Write a version as one plain file, for readers without Delta. Tracks that left the catalog are not in it.

    In a CSV file `top_k` and `genres` are JSON text, times are UTC, and what a spreadsheet would run has an
    apostrophe before it. The file is complete or absent.
    """
    request = ExportRequest(labels, kind, out, version, limit, overwrite, raw)
    from pipelines.nights.versions import write_version

    return write_version(request)


@command.command("show", short_help="Print the row of a track and its history.")
@click.argument("labels", type=URI)
@click.argument("track")
@click.option("--limit", type=_LIMIT, default=10, show_default=True, help="Changes of the row to print.")
def show(labels: Uri, track: str, limit: int) -> Summary:
    """Print the lineage of TRACK: its row, the commit that wrote it, and what earlier versions say."""
    from pipelines.nights.versions import show_track

    return show_track(labels, track, limit)


@command.command("corrections")
@click.argument("labels", type=URI)
@click.option("--limit", type=_LIMIT, default=50, show_default=True, help="Corrections to print.")
def corrections(labels: Uri, limit: int) -> Summary:
    """Print the curators' corrections.

    A correction outlives its track: if the track leaves the catalog, even with `--gone prune`, the correction stays and
    applies again when the track returns.
    """
    from pipelines.nights.versions import show_corrections

    return show_corrections(labels, limit)


_WORDS = tuple(command.commands)

if __name__ == "__main__":
    main(command)
