"""All recipes, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch

from mgc.errors import ConfigError
from mgc.experiment import Experiment
from mgc.features.front_end import clip_form
from mgc.models.architecture import build_model
from mgc.models.blocks import parameter_count
from mgc.recipes import gallego, holst, house, minhas, nguyen, obeirne_zamora
from mgc.recipes.space import Space

_HOUSE_GENRES: Final = 8
"""Number of genres of FMA-small, on which the default bundle is trained."""


@dataclass(frozen=True)
class Recipe:
    """A named function that returns an Experiment, and the figures that its paper reported.

    Attributes:
        name: name, as typed after `--recipe`.
        build: function that returns the experiment.
        genres: number of genres in the data of the paper, or of the house recipe.
        paper_row: system of the paper, for example `A1`; None for a house recipe.
        paper: authors of the paper, for a list; empty for a house recipe.
        citation: citation of the paper; empty for a house recipe.
        reported: figures of the paper by name; accuracies are shares of 1 on the paper's own data and split.
        space: default search space, from the paper or the house; None if there is none.
        remark: remark on the paper's figures; empty if there is none.
    """

    name: str
    build: Callable[[], Experiment]
    genres: int = _HOUSE_GENRES
    paper_row: str | None = None
    paper: str = ""
    citation: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)
    space: Space | None = None
    remark: str = ""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one clip's features."""
        return clip_form(self.build().front_end).shape

    @property
    def parameters(self) -> int:
        """Number of trainable parameters, with `genres` genres."""
        model, shape = self.build().model, self.input_shape
        # The meta device computes nothing and needs no memory.
        with torch.device("meta"):
            return parameter_count(build_model(model, shape, self.genres))


def _recipes() -> tuple[Recipe, ...]:
    a, b, c, d, e = obeirne_zamora, gallego, minhas, holst, nguyen

    def of(paper: Any, name: str, row: str, build: Callable[[], Experiment], genres: int | None = None) -> Recipe:
        return Recipe(name, build, genres or paper.GENRES, row, paper.PAPER, paper.CITATION, paper.REPORTED[row])

    return (
        Recipe("house", house.house),
        Recipe("house-thumbnail", house.house_thumbnail, space=house.SPACE),
        Recipe("house-finetuned", house.house_finetuned),
        Recipe("house-finetuned-musicnn", house.house_finetuned_musicnn),
        of(a, "obeirne-a1", "A1", a.a1),
        of(b, "gallego-b1", "B1", b.b1),
        replace(of(b, "gallego-b1-grid", "B1-grid", b.b1_grid), space=b.GRID),
        of(b, "gallego-b1-fma", "B1-fma", b.b1_fma, b.GENRES_FMA),
        of(b, "gallego-b2", "B2", b.b2),
        of(b, "gallego-b3", "B3", b.b3),
        of(c, "minhas-c1", "C1", c.c1),
        of(c, "minhas-c2", "C2", c.c2),
        of(c, "minhas-c3", "C3", c.c3),
        of(d, "holst-d1", "D1", d.d1),
        of(d, "holst-d2", "D2", d.d2),
        of(d, "holst-d3", "D3", d.d3),
        of(d, "holst-d3r", "D3R", d.d3r),
        of(d, "holst-d4", "D4", d.d4),
        of(d, "holst-d4r", "D4R", d.d4r),
        of(d, "holst-d5", "D5", d.d5),
        of(d, "holst-d6", "D6", d.d6),
        of(d, "holst-d7", "D7", d.d7),
        of(d, "holst-d8", "D8", d.d8),
        of(d, "holst-d9", "D9", d.d9),
        of(d, "holst-d10", "D10", d.d10),
        of(e, "nguyen-random", "E-random", e.guess_at_random),
        of(e, "nguyen-prior", "E-prior", e.guess_by_prior),
        of(e, "nguyen-dense", "E-dense", e.dense),
        of(e, "nguyen-mfcc-base", "E-mfcc-base", e.mfcc_base),
        replace(of(e, "nguyen-mel2", "E-mel2", e.mel2), remark=e.MEL2_REMARK),
        of(e, "nguyen-mel", "E-mel", e.mel),
        of(e, "nguyen-mfcc", "E-mfcc", e.mfcc),
        of(e, "nguyen-both", "E-both", e.both),
    )


RECIPES: Final[dict[str, Recipe]] = {recipe.name: recipe for recipe in _recipes()}


def find(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        ConfigError: there is no such recipe; the message lists all recipes.
    """
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}.{hint}")
