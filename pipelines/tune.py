"""`mgc tune --recipe RECIPE --features FEATURES --out FOLDER`: search a recipe, and keep the best trial as a bundle."""

from __future__ import annotations

from typing import get_args

import click

from cluster.storage.uri import Uri
from pipelines.command.job import Summary, main
from pipelines.command.options import OVERRIDES, PROFILE, URI, overrides
from pipelines.training.requests import SearchRequest
from tune.config import DEFAULT_TRIALS, Metric, Scheduler, SearchConfig, Searcher


@click.command("tune", context_settings=OVERRIDES)
@click.option(
    "--recipe", default="house-thumbnail", show_default=True, help="Recipe to search; `mgc recipes` lists them."
)
@click.option("--space", type=URI, help="JSON or YAML file of the fields to vary. The default is the recipe's space.")
@click.option("--features", type=URI, required=True, help="Folder that `mgc prepare` wrote.")
@click.option(
    "--out", type=URI, required=True, help="Folder of the report and the trials, with the best model in bundle/."
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    help=f"Number of trials. The default is {DEFAULT_TRIALS}; a grid always tries all its points.",
)
@click.option(
    "--searcher",
    type=click.Choice(get_args(Searcher)),
    default="random",
    show_default=True,
    help="How points are drawn.",
)
@click.option(
    "--scheduler",
    type=click.Choice(get_args(Scheduler)),
    default="asha",
    show_default=True,
    help="What ends trials early.",
)
@click.option(
    "--metric",
    type=click.Choice(get_args(Metric)),
    default="macro_f1",
    show_default=True,
    help="Validation figure by which trials are compared.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End all trials after N seconds.")
@click.option(
    "--grace",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Epochs before asha may end a trial, or between two changes of pbt.",
)
@click.option(
    "--reduction",
    type=click.IntRange(2),
    default=3,
    show_default=True,
    help="asha and hyperband keep one trial in N.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the points. The seed of the trainings is --training.seed.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1),
    help="Trials that run at the same time. The default is one for each core or GPU.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Data-parallel workers of each trial."
)
@PROFILE
@click.option("--limit", type=click.IntRange(2), help="Take only N tracks of each split, spread over it.")
@click.option(
    "--refit", is_flag=True, help="Train the best trial once more, on training and validation tracks together."
)
@click.option("--test", is_flag=True, help="Score the best trial on the test split, once.")
@click.option("--overwrite", is_flag=True, help="Replace another search at --out.")
@click.option("--dry-run", is_flag=True, help="Print the configuration and what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    recipe: str,
    space: Uri | None,
    features: Uri,
    out: Uri,
    trials: int | None,
    searcher: Searcher,
    scheduler: Scheduler,
    metric: Metric,
    seconds: float | None,
    grace: int,
    reduction: int,
    seed: int,
    at_once: int | None,
    workers: int,
    profile: str | None,
    limit: int | None,
    refit: bool,
    test: bool,
    overwrite: bool,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Search the fields of a recipe and save the trial with the best validation score as a bundle.

    A search that was killed continues when you give the same command again. Set fields outside the space by their
    dotted names, for example --training.epochs 3.
    """
    changes = overrides(fields)

    from mgc.configuration import configure
    from mgc.recipes.catalogue import find
    from pipelines.training.search import choose_space, count_trials, search_recipe

    found = find(recipe)
    searched = choose_space(found, space)
    return search_recipe(
        SearchRequest(
            experiment=found.build().override(changes),
            space=searched,
            config=configure(
                SearchConfig,
                "search",
                searcher=searcher,
                scheduler=scheduler,
                trials=count_trials(searcher, trials, searched),
                metric=metric,
                seconds=seconds,
                grace_epochs=grace,
                reduction=reduction,
                seed=seed,
            ),
            features=features,
            out=out,
            workers=workers,
            at_once=at_once,
            limit=limit,
            refit=refit,
            test=test,
            profile=profile,
            overwrite=overwrite,
            dry_run=dry_run,
        )
    )


if __name__ == "__main__":
    main(command)
