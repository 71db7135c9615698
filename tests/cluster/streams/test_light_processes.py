"""What each process of a job imports: those of which every run starts many import no PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cluster.streams.catalog_feed import ClipsOfSide
from cluster.streams.feed import ClipRows, Side
from cluster.streams.listening import FeaturesSink, Listen, PlanRows
from cluster.streams.predicting import AnswersSink, Label
from mgc.models.graph import Graph

COUNTERS = (
    "cluster.session.counts", "cluster.session.epoch_counter", "cluster.streams.failed_tracks",
    "cluster.training.journal",
)  # fmt: skip
"""Modules of the actors of the driver's node."""

TASKS = tuple(sorted({kind.__module__ for kind in (AnswersSink, ClipRows, ClipsOfSide, FeaturesSink, PlanRows, Side)}))
"""Modules of the stages that streams hand to tasks. A task imports the module of the class that it gets."""

ACTORS = (Listen.__module__, Label.__module__, Graph.__module__)
"""Modules of the actors of a label job, where CPUs compute the network as a graph."""


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (COUNTERS, {"torch", "pandas", "ray.data"}),
        (ACTORS + TASKS, {"torch", "ray.train"}),
    ],
)
def test_without(modules: tuple[str, ...], heavy: set[str]) -> None:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(modules) <= set(loaded)
    assert not heavy & set(loaded)


def test_loading_a_network_imports_no_compiler() -> None:
    """PyTorch's compiler takes seconds to import, and some operators on the device `meta` do so."""
    code = """
import sys
import torch
from mgc.bundle import load_bundle
from mgc.features.front_end import build_front_end
from mgc.models.architecture import build_model
from mgc.recipes.catalogue import RECIPES
for recipe in RECIPES.values():
    experiment = recipe.build()
    shape = build_front_end(experiment.front_end).shape
    with torch.device("meta"):
        build_model(experiment.model, shape, recipe.genres)
load_bundle("shipped")
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"torch._dynamo", "torch._inductor", "sympy", "pandas"} & set(loaded)
