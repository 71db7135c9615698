"""`mgc embed CATALOG-or-SOURCE --out URI`: embed every track that is new or changed, in one commit."""

from __future__ import annotations

from datetime import datetime

import click

from cluster.labels.policy import Gone
from cluster.storage.selection import Selection
from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from pipelines.command.job import Summary, main
from pipelines.command.options import ALLOW_ROOTS, MAX_FILE, PROFILE, URI
from pipelines.command.selecting import choosing_files
from pipelines.nights.options import LIMIT, OF_BUNDLE, OF_GONE, RETRY_ALL, UNTIL
from pipelines.nights.requests import EmbedRequest


@click.command("embed")
@click.argument("source", metavar="CATALOG-or-SOURCE", type=URI)
@click.option("--out", type=URI, required=True, help="Folder of the table of embeddings.")
@OF_BUNDLE
@LIMIT
@OF_GONE
@RETRY_ALL
@UNTIL
@choosing_files
@ALLOW_ROOTS
@PROFILE
@MAX_FILE
@click.option("--dry-run", is_flag=True, help="Print the configuration, the plan and what it would take.")
def command(
    source: Uri,
    out: Uri,
    bundle: Uri | BundleName | None,
    limit: int | None,
    gone: Gone,
    retry_all: bool,
    until: datetime | None,
    selection: Selection,
    allow_roots: tuple[Uri, ...],
    profile: str | None,
    max_file_gib: int,
    dry_run: bool,
) -> Summary:
    """Embed the tracks of a catalog (or of SOURCE, listed now) that are new, changed or embedded by another model.

    An embedding is what the network's last layers see of a track. The table changes in one commit at the end. If the
    job is killed, start it again: it continues where it stopped. A track that fails has a row with the reason; if it
    has an embedding already, it keeps it, marked as stale.

    `mgc label --embeddings URI` keeps the same table without hearing any track twice.
    """
    request = EmbedRequest(
        source, out, bundle, limit, gone, retry_all, allow_roots, selection, profile, until, max_file_gib, dry_run
    )
    from pipelines.nights.embed import embed

    return embed(request)


if __name__ == "__main__":
    main(command)
