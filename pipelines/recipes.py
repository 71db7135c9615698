"""`mgc recipes`: what can be trained."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from mgc.features.front_end import build_front_end
from mgc.recipes.catalogue import RECIPES
from pipelines.job import Summary, main


@click.command("recipes")
@click.option("--limit", type=click.IntRange(1), help="Only the first N.")
def command(limit: int | None) -> Summary:
    """List the recipes with their input, network and what their paper reported."""
    table = Table()
    for name in ("recipe", "paper", "front end", "input", "network", "reported"):
        table.add_column(name, no_wrap=name == "recipe")
    shown = list(RECIPES.values())[:limit]
    for recipe in shown:
        experiment = recipe.build()
        shape = build_front_end(experiment.front_end).shape
        reported = recipe.reported.get("test_accuracy")
        table.add_row(
            recipe.name,
            recipe.paper_row or "-",
            experiment.front_end.kind,
            " x ".join(map(str, shape)),
            experiment.model.kind,
            f"{reported:.2f}, own split" if reported is not None else "-",
        )
    Console().print(table)
    return Summary("done", {"recipes": len(shown)})


if __name__ == "__main__":
    main(command)
