"""The page of recipes: what can be trained, what the papers reported, and where a recipe departs from its paper."""

from __future__ import annotations

import itertools

from mgc.recipes.catalogue import RECIPES, Recipe
from mgc.recipes.scores import recipe_scores

_INTRODUCTION = """\
# Recipes

A recipe is a named configuration that `mgc train --recipe NAME` trains. This page is made from the code, as is
`mgc recipes`.

Accuracies of the papers are on their own data and division of tracks, often with clips of one track on both sides. Ours
are on the data that the notes name, with 95 % intervals. [Results](results.md) has all figures with their commands.
[Contributing](contributing.md#add-a-recipe) says how to add a recipe.
"""


def page() -> str:
    """Return the page as Markdown."""
    scores = recipe_scores()
    parts = [_INTRODUCTION]
    for paper, recipes in itertools.groupby(RECIPES.values(), key=lambda recipe: recipe.paper):
        shown = list(recipes)
        parts.append(f"## {paper or 'The house'}")
        if shown[0].citation:
            parts.append(shown[0].citation)
        rows = [
            "| recipe | row | input | parameters | the paper | ours (95 %) |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for recipe in shown:
            ours = "<br>".join(
                f"{score.accuracy:.3f} ({score.low:.3f} to {score.high:.3f}), {score.features}"
                for score in scores.get(recipe.name, [])
            )
            shape = " x ".join(map(str, recipe.input_shape))
            rows.append(
                f"| `{recipe.name}` | {recipe.paper_row or ''} | {recipe.build().front_end.kind}, {shape} "
                f"| {recipe.parameters:,} | {_reported(recipe)} | {ours} |"
            )
        parts.append("\n".join(rows))
        parts += [f"`{recipe.name}`: {recipe.remark}" for recipe in shown if recipe.remark]
        deviations = {recipe.name: recipe.build().deviations for recipe in shown}
        for name, reasons in deviations.items():
            if reasons:
                parts.append(f"Where `{name}` departs from the paper:")
                parts.append("\n".join(f"- {reason}" for reason in reasons))
    return "\n\n".join(parts) + "\n"


def _reported(recipe: Recipe) -> str:
    """Return the paper's figures, as one cell."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in recipe.reported.items())
