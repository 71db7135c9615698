"""List the recipes, with the figures of their papers and our own."""

from __future__ import annotations

import itertools
import re

from pydantic import JsonValue
from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from mgc.configuration import to_json
from mgc.recipes.catalogue import RECIPES, Recipe
from mgc.recipes.scores import RecipeScore, recipe_scores
from pipelines.command.console import show
from pipelines.command.job import Summary

_COLUMNS = {"recipe": 16, "input": 15, "parameters": 10, "reported": 10, "ours": 16}
"""Columns with their widths, the same in each paper's table. Together they are narrower than 80."""


def list_recipes(limit: int | None, as_json: bool) -> Summary:
    """Print the first `limit` recipes as a table for each paper, or as a JSON array."""
    scores = recipe_scores()
    listed = list(RECIPES.values())[:limit]
    summary = Summary("done", {"recipes": len(listed)})
    if as_json:
        summary.answer = [recipe_facts(recipe, scores.get(recipe.name)) for recipe in listed]
        return summary
    notes: list[str] = []
    for paper, recipes in itertools.groupby(listed, key=lambda recipe: recipe.paper):
        table = Table(box=box.SIMPLE, title=paper or "The house", title_justify="left", pad_edge=False)
        for name, width in _COLUMNS.items():
            justify: JustifyMethod = "right" if name == "parameters" else "left"
            table.add_column(name, min_width=width, no_wrap=True, justify=justify)
        for recipe in recipes:
            table.add_row(*_row(recipe, scores.get(recipe.name), notes))
        show(table)
    for number, note in enumerate(notes, 1):
        show(Text(f"({number}) {note}"))
    return summary


def recipe_facts(recipe: Recipe, scores: list[RecipeScore] | None) -> dict[str, JsonValue]:
    """Return a recipe as JSON values, with our own scores for it if there are any."""
    return {
        "name": recipe.name,
        "paper_row": recipe.paper_row,
        "parameters": recipe.parameters,
        "input_shape": list(recipe.input_shape),
        "reported": dict(recipe.reported) or None,
        "ours": [to_json(score) for score in scores] if scores else None,
    }


def _row(recipe: Recipe, scores: list[RecipeScore] | None, notes: list[str]) -> tuple[str, ...]:
    """Return a recipe as cells of two lines. Text that does not fit becomes a note."""
    reported = [f"{recipe.reported[f'{split}_accuracy']:.3f}", split] if (split := _scored(recipe)) else ["-"]
    if recipe.remark:
        reported[0] += _mark(notes, recipe.remark)
    ours = [
        f"{score.accuracy:.3f}{_mark(notes, _circumstances(score))}\n{score.low:.3f} to {score.high:.3f}"
        for score in scores or ()
    ]
    return (
        f"{recipe.name}\n{recipe.paper_row or ''}",
        f"{recipe.build().front_end.kind}\n{' x '.join(map(str, recipe.input_shape))}",
        f"{recipe.parameters:,}",
        "\n".join(reported),
        "\n".join(ours) or "-",
    )


def _circumstances(score: RecipeScore) -> str:
    """Describe the data behind a score and the changes to the recipe, such as a limit on epochs."""
    changes = re.findall(r"--((?!recipe|features|protocol)\S+) (\S+)", score.command)
    told = ", ".join(f"{name} {value}" for name, value in changes)
    return f"{score.split} of {score.features}, {score.protocol}" + (f"; trained with {told}" if told else "")


def _mark(notes: list[str], note: str) -> str:
    """Return the mark of a note. Adds the note if it is new."""
    if note not in notes:
        notes.append(note)
    return f" ({notes.index(note) + 1})"


def _scored(recipe: Recipe) -> str | None:
    """Return the split of the figure to show: the test split if the paper states one."""
    return next((split for split in ("test", "validation") if f"{split}_accuracy" in recipe.reported), None)
