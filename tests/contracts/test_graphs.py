"""Every recipe's network can be exported, and ONNX Runtime answers as PyTorch does.

`export_graph` itself compares the two, on other numbers of clips and of frames than it traced.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from mgc.bundle import load_bundle
from mgc.errors import BundleError
from mgc.graphs.export import CLOSE, compare_graph, export_graph
from mgc.models.graph import Graph
from mgc.public_models.bundles import build_public_bundle
from mgc.recipes.catalogue import RECIPES, Recipe
from tests.support.bundles.untrained import untrained

MODELS: Final = os.environ.get("MGC_TEST_MODELS")

LARGE: Final = 300_000
"""Parameters of a network whose graph takes long to write and compare. Smaller ones are of every family."""

NETWORKS: Final = {str((recipe.build().model, recipe.input_shape)): recipe for recipe in RECIPES.values()}
"""One recipe for each network."""


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, id=recipe.name, marks=[pytest.mark.drill] if recipe.parameters > LARGE else [])
        for recipe in NETWORKS.values()
    ],
)
def test_a_recipe(recipe: Recipe) -> None:
    bundle = untrained(recipe)
    if not recipe.parameters:
        with pytest.raises(BundleError, match="guess"):
            export_graph(bundle)
        return
    assert compare_graph(bundle, Graph(export_graph(bundle))) <= CLOSE


def test_the_shipped_bundle() -> None:
    """Three trained networks under one head, one of them on statistics."""
    bundle = load_bundle("shipped")
    assert compare_graph(bundle, Graph(export_graph(bundle))) <= CLOSE / 10


@pytest.mark.skipif(MODELS is None, reason="no public models: set MGC_TEST_MODELS")
def test_mn04() -> None:
    path = Path(MODELS or "") / "mn04_as_mAP_432.pt"
    bundle = build_public_bundle("mn04", path.read_bytes(), path.name)
    assert compare_graph(bundle, Graph(export_graph(bundle))) <= CLOSE / 10
