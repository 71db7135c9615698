"""Every recipe by its name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mgc.errors import ConfigError
from mgc.experiment import Experiment
from mgc.recipes import house, obeirne_zamora


@dataclass(frozen=True)
class Recipe:
    """A named function to an Experiment, and what its paper reported.

    Attributes:
        name: as typed after `--recipe`.
        build: returns the experiment.
        paper_row: the paper's system, for example `A1`; None for the house's own.
        citation: of the paper; empty for the house's own.
        reported: the paper's figures by name, shares of 1.
    """

    name: str
    build: Callable[[], Experiment]
    paper_row: str | None = None
    citation: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)


RECIPES: Final[dict[str, Recipe]] = {
    recipe.name: recipe
    for recipe in (
        Recipe("house", house.house),
        Recipe("house-thumbnail", house.house_thumbnail),
        Recipe("obeirne-a1", obeirne_zamora.a1, "A1", obeirne_zamora.CITATION, obeirne_zamora.REPORTED),
    )
}


def find(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}.{hint}")
