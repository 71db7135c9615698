from __future__ import annotations

from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from mgc.configuration import to_json
from mgc.errors import ConfigError
from mgc.models.architecture import ModelConfig, build_model, check_input
from mgc.models.blocks import MeanMaxPool, parameter_count
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.models.obeirne import SMALLEST_SIDE, OBeirneCnn, OBeirneCnnConfig

SMALL = {"house_cnn": HouseCnnConfig(channels=(4, 6)), "obeirne_cnn": OBeirneCnnConfig(filters=(2, 3, 4, 5))}


def test_every_kind_is_tested() -> None:
    assert {kind.kind for kind in get_args(get_args(ModelConfig)[0])} == SMALL.keys()


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL.keys())
def test_a_model_of_each_kind(config: HouseCnnConfig | OBeirneCnnConfig) -> None:
    assert TypeAdapter(ModelConfig).validate_python(to_json(config)) == config
    torch.manual_seed(0)
    model = build_model(config, (40, 30), 7)
    torch.manual_seed(0)
    again = build_model(config, (40, 30), 7)
    assert all(torch.equal(first, second) for first, second in zip(model.parameters(), again.parameters(), strict=True))
    features_BFT = torch.randn(3, 40, 30)
    assert model.training
    model.eval()
    embedding_BD = model.embed(features_BFT)
    assert embedding_BD.ndim == 2
    logits_BG = model(features_BFT)
    assert logits_BG.shape == (3, 7)
    assert logits_BG.dtype == torch.float32
    torch.testing.assert_close(model.classify(embedding_BD), logits_BG, rtol=0, atol=0)
    torch.testing.assert_close(model(features_BFT[:1]), logits_BG[:1], rtol=1e-4, atol=1e-5)
    # Every weight has a say in the answer.
    model.train()
    model(features_BFT).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("side", [1, 2, 3, 5, 17])
def test_the_house_takes_any_number_of_bins_and_frames(side: int) -> None:
    model = HouseCnn(HouseCnnConfig(channels=(4, 4, 4), blocks=1), 5)
    check_input(HouseCnnConfig(), (side, 1))
    assert model(torch.randn(2, side, 20)).shape == (2, 5)
    assert model(torch.randn(2, 20, side)).shape == (2, 5)


def test_parameters_of_the_house_by_hand() -> None:
    # 1 → 4 convolution and norm: 36 + 8; a block: 2 × (144 + 8); 4 → 6: 216 + 12; a block: 2 × (324 + 12);
    # 12 pooled → 5 genres: 60 + 5.
    model = HouseCnn(HouseCnnConfig(channels=(4, 6), blocks=1), 5)
    assert parameter_count(model) == 44 + 304 + 228 + 672 + 65
    for parameter in model.head.parameters():
        parameter.requires_grad_(False)
    assert parameter_count(model) == 44 + 304 + 228 + 672


def test_the_pool_by_hand() -> None:
    maps_BCFT = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, -4.0], [-2.0, -2.0]]]])
    assert MeanMaxPool()(maps_BCFT).tolist() == [[3.0, -2.0, 6.0, 0.0]]


def test_the_paper_network_layer_by_layer() -> None:
    model = OBeirneCnn(OBeirneCnnConfig(), (128, 128), 10)
    kinds = [type(layer) for layer in model.convolutions]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d] * 4
    convolutions = [layer for layer in model.convolutions if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in convolutions] == [(2, 2), (1, 1), (2, 2), (1, 1)]
    assert {layer.kernel_size for layer in convolutions} == {(2, 2)}
    # 128 → 64 → 63 → 62 → 61 → 30 → 29 → 28 → 27
    assert model.head.in_features == 128 * 27 * 27


def test_xavier_initialisation() -> None:
    torch.manual_seed(0)
    model = OBeirneCnn(OBeirneCnnConfig(), (64, 64), 10)
    for layer in (*model.convolutions, model.head):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_out, fan_in = layer.weight.shape[0], layer.weight[0].numel()
            if isinstance(layer, nn.Conv2d):
                fan_out *= 4
            bound = (6 / (fan_in + fan_out)) ** 0.5
            assert 0.8 * bound < float(layer.weight.detach().abs().max()) <= bound
            assert float(layer.bias.detach().abs().max()) == 0.0


@pytest.mark.parametrize("shape", [(SMALLEST_SIDE, 40), (40, SMALLEST_SIDE), (37, 61), (130, 128)])
def test_the_dense_layer_fits_what_the_convolutions_leave(shape: tuple[int, int]) -> None:
    assert build_model(SMALL["obeirne_cnn"], shape, 3)(torch.randn(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(SMALLEST_SIDE - 1, 40), (40, SMALLEST_SIDE - 1)])
def test_too_small_an_input_is_one_clear_line(shape: tuple[int, int]) -> None:
    message = f"model obeirne_cnn needs 22 bins and 22 frames at least, the front end gives {shape[0]} bins and"
    with pytest.raises(ConfigError, match=message):
        build_model(OBeirneCnnConfig(), shape, 3)


@pytest.mark.parametrize(
    "wrong",
    [{"channels": ()}, {"channels": (0,)}, {"channels": (8,) * 7}, {"blocks": -1}, {"dropout": 1.0}, {"width": 3}],
)
def test_a_wrong_configuration_is_refused_at_birth(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HouseCnnConfig(**wrong)  # type: ignore[arg-type]
