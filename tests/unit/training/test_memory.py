"""What a step keeps, counted on the meta device, is what it keeps on a real one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mgc.models.architecture import build_model
from mgc.models.blocks import parameter_count
from mgc.recipes.catalogue import RECIPES
from mgc.training.memory import step_bytes


@pytest.mark.parametrize("name", ["house-thumbnail", "obeirne-a1", "gallego-b2", "nguyen-dense"])
def test_as_on_a_real_device(name: str) -> None:
    recipe, clips = RECIPES[name], 4
    config, shape = recipe.build().model, recipe.input_shape
    model = build_model(config, shape, recipe.genres).train()
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    features = torch.rand(clips, *shape)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = functional.cross_entropy(model(features), torch.zeros(clips, dtype=torch.int64))
    loss.backward()
    activations = sum(each.untyped_storage().nbytes() for place, each in kept.items() if place not in own)
    real = activations + 16 * parameter_count(model) + 4 * features.numel()
    counted = step_bytes(config, shape, recipe.genres, clips)
    # Kernels choose by device what they keep: an LSTM's differ.
    assert counted == pytest.approx(real, rel=0.25)


def test_it_grows_with_the_batch() -> None:
    recipe = RECIPES["house"]
    config, shape = recipe.build().model, recipe.input_shape
    one, two, three = (step_bytes(config, shape, 8, clips) for clips in (8, 16, 24))
    assert three - two == pytest.approx(two - one, rel=1e-3)
