"""Measured scores of the recipes: the entries of scores.json, which RESULTS.md mirrors."""

from __future__ import annotations

import importlib.resources
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.errors import ConfigError

Figure = Annotated[float, Field(ge=0.0, le=1.0)]
Text = Annotated[str, Field(min_length=1)]

_FILE: Final = "scores.json"


@dataclass(frozen=True, config=STRICT)
class RecipeScore:
    """One score of a recipe.

    Attributes:
        recipe: name of the recipe.
        features: features that it was trained on.
        protocol: protocol that divided the data.
        split: scored split.
        tracks: number of tracks in that split.
        accuracy: share of tracks answered correctly.
        low: lower end of the accuracy's 95 % interval.
        high: upper end of that interval.
        macro_f1: F1 averaged over the genres.
        commit: commit of the code.
        command: command that trained the model.
    """

    recipe: Text
    features: Text
    protocol: Text
    split: Text
    tracks: Annotated[int, Field(ge=1)]
    accuracy: Figure
    low: Figure
    high: Figure
    macro_f1: Figure
    commit: Text
    command: Text


_SCORES: Final = TypeAdapter(list[RecipeScore])


def recipe_scores() -> dict[str, list[RecipeScore]]:
    """Return the scores of each recipe that has any, in the order of the file.

    Raises:
        ConfigError: the file shipped with mgc was changed and is no longer valid.
    """
    text = importlib.resources.files("mgc.recipes").joinpath(_FILE).read_text(encoding="utf-8")
    try:
        entries = _SCORES.validate_json(text, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ConfigError(f"{_FILE}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}. Install mgc again.") from None
    scores: dict[str, list[RecipeScore]] = {}
    for entry in entries:
        scores.setdefault(entry.recipe, []).append(entry)
    return scores
