"""`mgc show LABELS-or-BUNDLE`: print a labels table, or what a bundle is and which words it knows."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from mgc.bundle_names import LAST_FILE, BundleName
from pipelines.command.job import Summary, main
from pipelines.command.options import BUNDLE
from pipelines.models.requests import ShowBundleRequest
from pipelines.nights.requests import ShowRequest

_ROWS = 20


@click.command("show")
@click.argument("place", metavar="LABELS-or-BUNDLE", type=BUNDLE)
@click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"Rows of each table to print. The default is {_ROWS} of a labels table, and all of a bundle.",
)
@click.option("--genre", help="Print only tracks of this genre, or only tags that speak for it.")
@click.option("--dry-run", is_flag=True, help="Only print the counts.")
def command(place: Uri | BundleName, limit: int | None, genre: str | None, dry_run: bool) -> Summary:
    """Print a labels table: tracks by genre, some tracks, and quarantined tracks with their reasons.

    Of a bundle (its folder, or its name), print what it is, the tags or genres that it knows, and which maps of
    --taxonomy fit it.
    """
    if isinstance(place, BundleName) or _is_bundle(place):
        from pipelines.models.show import show_bundle

        return show_bundle(ShowBundleRequest(place, limit, genre, dry_run))
    request = ShowRequest(place, limit or _ROWS, genre, dry_run=dry_run)
    from pipelines.nights.show import show

    return show(request)


def _is_bundle(place: Uri) -> bool:
    from cluster.storage import files

    return files.exists(place / LAST_FILE)


if __name__ == "__main__":
    main(command)
