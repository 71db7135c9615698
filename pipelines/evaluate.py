"""`mgc evaluate --bundle BUNDLE --features FEATURES`: score a bundle on a split, and write its report."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from pipelines.command.job import Summary, main
from pipelines.command.options import BUNDLE, OVERRIDES, PROFILE, TAXONOMY, URI, overrides
from pipelines.evaluation.requests import MAP_TRACKS, EvaluateRequest


@click.command("evaluate", context_settings=OVERRIDES)
@click.option(
    "--bundle",
    type=BUNDLE,
    required=True,
    help="Folder of the bundle, in which metrics.json, report.html and report.json are replaced.",
)
@click.option(
    "--taxonomy",
    type=TAXONOMY,
    help="Genres to score instead of the bundle's own, as for `mgc label`; needs --out.",
)
@click.option("--features", type=URI, required=True, help="Folder that `mgc prepare` wrote.")
@click.option("--split", default="test", show_default=True, help="Split to score.")
@click.option("--out", type=URI, help="Write the three files to this folder instead.")
@PROFILE
@click.option("--limit", type=click.IntRange(1), help="Take only N tracks, spread over the split.")
@click.option(
    "--map/--no-map", "draw_map", default=True, show_default=True, help=f"Draw a t-SNE of up to {MAP_TRACKS:,} tracks."
)
@click.option(
    "--robustness",
    is_flag=True,
    help="Score again with 25, 50 and 75 % of the pixels zeroed, which takes four times as long.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    bundle: Uri | BundleName,
    taxonomy: Uri | str | None,
    features: Uri,
    split: str,
    out: Uri | None,
    profile: str | None,
    limit: int | None,
    draw_map: bool,
    robustness: bool,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Score a bundle on a split of prepared features, and write an HTML report.

    The bundle's own protocol divides the rows. Choose another by its fields, for example --protocol.kind given.
    """
    changes = overrides(fields)

    from pipelines.evaluation.evaluate import evaluate_bundle

    return evaluate_bundle(
        EvaluateRequest(
            bundle=bundle,
            features=features,
            split=split,
            out=out,
            profile=profile,
            limit=limit,
            fields=changes,
            draw_map=draw_map,
            robustness=robustness,
            dry_run=dry_run,
            taxonomy=taxonomy,
        )
    )


if __name__ == "__main__":
    main(command)
