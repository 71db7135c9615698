"""`mgc ensemble BUNDLE BUNDLE … --out BUNDLE`: several trained models as one, their logits averaged."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from pipelines.command.job import Summary, main
from pipelines.command.options import BUNDLE, URI
from pipelines.evaluation.requests import EnsembleRequest


@click.command("ensemble")
@click.argument("bundles", nargs=-1, type=BUNDLE)
@click.option("--out", type=URI, required=True, help="Folder of the bundle.")
@click.option("--overwrite", is_flag=True, help="Replace another bundle at --out.")
@click.option("--dry-run", is_flag=True, help="Only check that the bundles fit together.")
def command(bundles: tuple[Uri | BundleName, ...], out: Uri, overwrite: bool, dry_run: bool) -> Summary:
    """Join bundles into one whose logits are the mean of theirs.

    The bundles must be trained on the same features and tracks, for example with several values of --training.seed.
    The ensemble computes as much as all its members together.
    """
    if len(bundles) < 2:
        raise click.UsageError("an ensemble needs at least two bundles.")

    from pipelines.evaluation.ensemble import join_bundles

    return join_bundles(EnsembleRequest(bundles, out, overwrite, dry_run))


if __name__ == "__main__":
    main(command)
