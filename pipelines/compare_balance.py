"""`python -m pipelines.compare_balance --features FEATURES --out FOLDER`: what helps rare genres, in one table."""

from __future__ import annotations

from typing import Literal

import click

from cluster.storage.uri import Uri
from mgc.errors import ConfigError
from pipelines.command.job import Summary, main
from pipelines.command.options import OVERRIDES, PROFILE, URI, overrides
from pipelines.training.balance_methods import METHODS
from pipelines.training.requests import BalanceRequest


@click.command("compare-balance", context_settings=OVERRIDES)
@click.option("--features", type=URI, required=True, help="Folder of features with an unbalanced training split.")
@click.option("--out", type=URI, required=True, help="Folder of the bundles, one each, and of results.json.")
@click.option(
    "--recipe", default="house-thumbnail", show_default=True, help="Recipe to train; `mgc recipes` lists them."
)
@click.option("--methods", default=",".join(METHODS), show_default=True, help="Methods, separated by commas.")
@click.option("--seeds", default="0", show_default=True, help="Seeds of each method, separated by commas.")
@click.option("--split", default="test", show_default=True, help="Split to score.")
@click.option(
    "--shots",
    type=click.Choice(["thirds", "liu"]),
    default="thirds",
    show_default=True,
    help="Groups of many, medium and few shots: thirds of the genres, or more than 100, 20 to 100 and fewer than 20 "
    "clips.",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Data-parallel workers.")
@PROFILE
@click.option("--limit", type=click.IntRange(2), help="Take only N tracks of each split, spread over it.")
@click.option("--dry-run", is_flag=True, help="Print what would be trained.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    features: Uri,
    out: Uri,
    recipe: str,
    methods: str,
    seeds: str,
    split: str,
    shots: Literal["thirds", "liu"],
    workers: int,
    profile: str | None,
    limit: int | None,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Train one recipe with every method for unbalanced genres, score each model, and print one table.

    Fields such as --training.epochs 20 apply to all methods. The same command continues where it stopped.
    """
    if not all(seed.isdecimal() for seed in seeds.split(",")):
        raise ConfigError(f"--seeds {seeds}: give whole numbers, separated by commas.")
    numbers = [int(seed) for seed in seeds.split(",")]
    changes = overrides(fields)

    from pipelines.training.balance import compare_balance, plan_experiments

    return compare_balance(
        BalanceRequest(
            experiments=plan_experiments(recipe, methods.split(","), numbers, changes),
            features=features,
            out=out,
            split=split,
            shots=shots,
            workers=workers,
            limit=limit,
            profile=profile,
            dry_run=dry_run,
        )
    )


if __name__ == "__main__":
    main(command)
