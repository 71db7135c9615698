"""musicnn's filters take a shorter way in training. It gives what the layers themselves give."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mgc.models.musicnn import Musicnn, MusicnnConfig, _Filters, _HighestNormalised
from mgc.training.ghost import GhostBatchNorm

SIZES = st.tuples(st.integers(2, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 7))


@given(sizes=SIZES, seed=st.integers(0, 2**31), silent=st.booleans())
def test_the_highest_row_is_known_before_it_is_normalised(
    sizes: tuple[int, int, int, int], seed: int, silent: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps_BCFT = torch.randn(sizes, generator=generator, dtype=torch.float64).relu_()
    if silent:
        maps_BCFT[:, 0] = 0
    layer = nn.BatchNorm2d(sizes[1], eps=1e-3).double()
    # Channels that are turned round have their highest row where the map is lowest.
    nn.init.normal_(layer.weight, generator=generator)
    nn.init.normal_(layer.bias, generator=generator)
    wanted_BCFT, maps_BCFT = maps_BCFT.clone().requires_grad_(), maps_BCFT.requires_grad_()
    wanted_BCT = layer(wanted_BCFT).amax(2)
    weights_BCT = torch.randn(wanted_BCT.shape, generator=generator, dtype=torch.float64)
    wanted = torch.autograd.grad((wanted_BCT * weights_BCT).sum(), [wanted_BCFT, layer.weight, layer.bias])
    highest_BCT, mean_C, variance_C = _HighestNormalised.apply(maps_BCFT, layer.weight, layer.bias, layer.eps)
    found = torch.autograd.grad((highest_BCT * weights_BCT).sum(), [maps_BCFT, layer.weight, layer.bias])
    torch.testing.assert_close(highest_BCT, wanted_BCT)
    torch.testing.assert_close(mean_C, maps_BCFT.mean((0, 2, 3)))
    torch.testing.assert_close(variance_C, maps_BCFT.var((0, 2, 3), correction=0))
    # Where rows tie, the gradient goes to one of them. The maps come out of a ReLU, which lets none through at zero.
    torch.testing.assert_close(found[0] * (maps_BCFT > 0), wanted[0] * (maps_BCFT > 0))
    torch.testing.assert_close(found[1:], wanted[1:])


@pytest.mark.parametrize("height", [1, 4])
def test_a_step_of_the_filters_is_that_of_their_layers(height: int) -> None:
    torch.manual_seed(0)
    filters = _Filters(6, 5, height).train()
    for name in ("normalization.weight", "normalization.bias"):
        nn.init.normal_(filters.get_parameter(name))
    plain = copy.deepcopy(filters)
    maps_B1FT = torch.randn(3, 1, 9, 16)
    found_BCT = filters(maps_B1FT)
    wanted_BCT = plain.normalization(plain.convolution(nn.functional.pad(maps_B1FT, (2, 2))).relu()).amax(2)
    torch.testing.assert_close(found_BCT, wanted_BCT, rtol=1e-4, atol=1e-5)
    for output_BCT in (found_BCT, wanted_BCT):
        output_BCT.square().sum().backward()
    for name, parameter in filters.named_parameters():
        torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad, rtol=1e-3, atol=1e-3, msg=name)
    # Running statistics too.
    for name, buffer in filters.named_buffers():
        torch.testing.assert_close(buffer, plain.get_buffer(name), rtol=1e-4, atol=1e-6, msg=name)


def test_another_normalisation_is_used_as_it_is() -> None:
    torch.manual_seed(0)
    filters = _Filters(2, 3, 2).train()
    filters.normalization = GhostBatchNorm(nn.BatchNorm2d(2), 2)
    maps_B1FT = torch.randn(4, 1, 5, 6)
    halves = [filters(part) for part in maps_B1FT.split(2)]
    torch.testing.assert_close(filters(maps_B1FT), torch.cat(halves))


def test_the_input_is_scaled_by_the_filters_alone() -> None:
    model = Musicnn(MusicnnConfig(timbres=2, rhythms=2, middle=2, hidden=2), 16, 3).train()
    model(torch.randn(2, 16, 8)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == [
        "input.weight",
        "input.bias",
    ]
