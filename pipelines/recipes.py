"""`mgc recipes`: what can be trained."""

from __future__ import annotations

import click

from pipelines.command.job import Summary, main


@click.command("recipes")
@click.option("--limit", type=click.IntRange(1), help="Take only the first N recipes.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array on stdout, and nothing else.")
def command(limit: int | None, as_json: bool) -> Summary:
    """List the recipes with their paper, input, parameters, what the paper reported and what ours reached.

    Figures are accuracies. The papers measured on their own data and split, often with clips of one track on both
    sides; ours have a 95 % interval. Parameters are counted with the paper's number of genres.
    """
    from pipelines.training.recipe_list import list_recipes

    return list_recipes(limit, as_json)


if __name__ == "__main__":
    main(command)
