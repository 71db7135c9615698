"""`mgc recipes`: what can be trained."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mgc.configuration import to_json
from mgc.recipes.catalogue import RECIPES, Recipe
from mgc.recipes.scores import RecipeScore, recipe_scores
from pipelines.job import Summary, main

_COLUMNS = ("recipe", "paper", "input", "parameters", "reported", "ours")


def facts(recipe: Recipe, scores: list[RecipeScore] | None) -> dict[str, Any]:
    """A recipe as JSON-ready values.

    Args:
        recipe: any.
        scores: ours of it, if there are any.
    """
    return {
        "name": recipe.name,
        "paper_row": recipe.paper_row,
        "parameters": recipe.parameters,
        "input_shape": list(recipe.input_shape),
        "reported": dict(recipe.reported) or None,
        "ours": [to_json(score) for score in scores] if scores else None,
    }


def _row(recipe: Recipe, scores: list[RecipeScore] | None) -> tuple[str, ...]:
    """A recipe for a person to read."""
    kind = recipe.build().front_end.kind
    reported = [f"{recipe.reported[f'{split}_accuracy']:.3f} {split}" for split in _scored(recipe)]
    return (
        recipe.name,
        f"{recipe.paper_row}, {recipe.paper}" if recipe.paper_row else "-",
        f"{kind}\n{' x '.join(map(str, recipe.input_shape))}",
        f"{recipe.parameters:,}",
        "\n".join([*reported, *([f"({recipe.remark})"] if recipe.remark else [])]) or "-",
        "\n".join(
            f"{score.accuracy:.3f} ({score.low:.3f} to {score.high:.3f}), {score.split} of {score.features}, "
            f"{score.protocol}"
            for score in scores or ()
        )
        or "-",
    )


def _scored(recipe: Recipe) -> list[str]:
    """The split of the paper's figure that counts: the test split where it states one."""
    return [split for split in ("test", "validation") if f"{split}_accuracy" in recipe.reported][:1]


@click.command("recipes")
@click.option("--limit", type=click.IntRange(1), help="Only the first N.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, and nothing else, on stdout.")
def command(limit: int | None, as_json: bool) -> Summary:
    """List the recipes with their paper, input, parameters, what the paper reported and what ours reached.

    The papers' figures are accuracies on their own data and split, often with clips of one track on both sides.
    Parameters are those with the paper's number of genres.
    """
    scores = recipe_scores()
    shown = list(RECIPES.values())[:limit]
    summary = Summary("done", {"recipes": len(shown)})
    if as_json:
        summary.answer = [facts(recipe, scores.get(recipe.name)) for recipe in shown]
        return summary
    table = Table()
    for name in _COLUMNS:
        table.add_column(
            name, no_wrap=name in ("recipe", "input", "parameters"), justify="right" if name == "parameters" else "left"
        )
    for recipe in shown:
        table.add_row(*_row(recipe, scores.get(recipe.name)))
    Console().print(table)
    return summary


if __name__ == "__main__":
    main(command)
