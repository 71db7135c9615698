"""Bundles of untrained networks, which are enough to label, to export, and to measure."""

from __future__ import annotations

import torch

from mgc.bundle import Bundle
from mgc.features.normalization import Normalization
from mgc.models.architecture import build_model
from mgc.recipes.catalogue import Recipe
from mgc.taxonomy import Taxonomy


def untrained(recipe: Recipe) -> Bundle:
    """A recipe's network with its first weights, always the same ones, and genres that have numbers for names."""
    torch.manual_seed(0)
    experiment, shape = recipe.build(), recipe.input_shape
    model = build_model(experiment.model, shape, recipe.genres).eval()
    genres = Taxonomy.flat([f"genre {number:02}" for number in range(recipe.genres)])
    bins = shape[-1] if len(shape) == 3 else shape[0]
    return Bundle(experiment, genres, Normalization((100.0,) * bins, (50.0,) * bins), model)
