"""`mgc compare FIRST SECOND --features FEATURES`: two bundles on the same tracks, and how sure the difference is."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from pipelines.command.job import Summary, main
from pipelines.command.options import BUNDLE, OVERRIDES, URI, overrides
from pipelines.evaluation.requests import CompareRequest


@click.command("compare", context_settings=OVERRIDES)
@click.argument("first", type=BUNDLE)
@click.argument("second", type=BUNDLE)
@click.option(
    "--features",
    type=URI,
    required=True,
    multiple=True,
    help="Folder that `mgc prepare` wrote. Give it twice if the second bundle has another front end.",
)
@click.option("--split", default="test", show_default=True, help="Split whose tracks are compared.")
@click.option("--out", type=URI, help="JSON file to write.")
@click.option("--dry-run", is_flag=True, help="Print what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    first: Uri | BundleName,
    second: Uri | BundleName,
    features: tuple[Uri, ...],
    split: str,
    out: Uri | None,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Compare two bundles on the same tracks: the differences of accuracy and macro-F1, second minus first.

    The 95 % intervals of the differences come from a paired bootstrap over artists: both models are scored on the same
    resampled artists. The protocol of the FIRST bundle divides the rows. Choose another by its fields, for example
    --protocol.kind given.
    """
    if len(features) > 2:
        raise click.UsageError("give --features once or twice: there are two bundles.")
    changes = overrides(fields)

    from pipelines.evaluation.compare import compare_bundles

    return compare_bundles(
        CompareRequest(
            bundles=(first, second),
            features=(features[0], features[-1]),
            split=split,
            out=out,
            fields=changes,
            dry_run=dry_run,
        )
    )


if __name__ == "__main__":
    main(command)
