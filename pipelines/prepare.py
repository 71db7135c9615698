"""`mgc prepare CATALOG --out FEATURES`: decode every track once and write what training reads."""

from __future__ import annotations

import click

from cluster.storage.selection import Selection
from cluster.storage.uri import Uri
from pipelines.command.job import Summary, main
from pipelines.command.options import ALLOW_ROOTS, MAX_FILE, OVERRIDES, PROFILE, URI, overrides
from pipelines.command.selecting import choosing_files
from pipelines.training.requests import PrepareRequest


@click.command("prepare", context_settings=OVERRIDES)
@click.argument("catalog", type=URI)
@click.option("--out", type=URI, required=True, help="Folder of the features.")
@click.option("--recipe", default="house", show_default=True, help="Recipe whose front end computes the features.")
@choosing_files
@ALLOW_ROOTS
@MAX_FILE
@PROFILE
@click.option("--limit", type=click.IntRange(1), help="Take only the first N tracks.")
@click.option("--dry-run", is_flag=True, help="Print the configuration and what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    catalog: Uri,
    out: Uri,
    recipe: str,
    allow_roots: tuple[Uri, ...],
    profile: str | None,
    limit: int | None,
    dry_run: bool,
    fields: tuple[str, ...],
    selection: Selection,
    max_file_gib: int,
) -> Summary:
    """Compute the features of a catalog's tracks for training.

    Instead of a catalog, name a SOURCE of tracks, which is listed now. Set any field of the recipe by its dotted
    name, for example --front_end.n_mels 96.
    """
    changes = overrides(fields)

    from mgc.recipes.catalogue import find
    from pipelines.training.prepared import prepare_features

    return prepare_features(
        PrepareRequest(
            catalog=catalog,
            out=out,
            experiment=find(recipe).build().override(changes),
            profile=profile,
            limit=limit,
            dry_run=dry_run,
            allow_roots=allow_roots,
            selection=selection,
            max_file_gib=max_file_gib,
        )
    )


if __name__ == "__main__":
    main(command)
