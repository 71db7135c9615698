"""`mgc import-mels FILE --out FEATURES`: published thumbnails of FMA-small as features to train on."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from pipelines.command.job import Summary, main
from pipelines.command.options import URI
from pipelines.training.requests import ImportRequest


@click.command("import-mels")
@click.argument("source", metavar="FILE", type=URI)
@click.option("--out", type=URI, required=True, help="Folder of the features.")
@click.option(
    "--long-tail",
    "ratio",
    type=click.FloatRange(1),
    metavar="RATIO",
    help="Thin the training split until the most frequent genre has RATIO times the tracks of the rarest.",
)
@click.option("--limit", type=click.IntRange(1), help="Take only the first N tracks.")
@click.option("--dry-run", is_flag=True, help="Print what would be done.")
def command(source: Uri, out: Uri, ratio: float | None, limit: int | None, dry_run: bool) -> Summary:
    """Turn a Parquet file of 128 x 128 FMA-small mels into features for `mgc train --recipe house-thumbnail`.

    FILE has the columns track_id, genre_top, artist_id, split and mel_u8. 12 % of the training artists become the
    validation split.

    --long-tail makes the training split unbalanced: genres, ordered by count and then by name, keep exponentially
    fewer tracks. Validation and test stay as they are.
    """
    from pipelines.training.mels import import_mels

    return import_mels(ImportRequest(source, out, limit, ratio, dry_run))


if __name__ == "__main__":
    main(command)
