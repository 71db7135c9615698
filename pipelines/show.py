"""`mgc show LABELS`: print a labels table."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from pipelines.command.job import URI, Summary, main
from pipelines.nights.requests import ShowRequest


@click.command("show")
@click.argument("labels", type=URI)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows of each table to print.")
@click.option("--genre", help="Print only tracks of this genre.")
@click.option("--dry-run", is_flag=True, help="Only print the counts.")
def command(labels: Uri, limit: int, genre: str | None, dry_run: bool) -> Summary:
    """Print a labels table: tracks by genre, some tracks, and quarantined tracks with their reasons."""
    request = ShowRequest(labels, limit, genre, dry_run=dry_run)
    from pipelines.nights.show import show

    return show(request)


if __name__ == "__main__":
    main(command)
