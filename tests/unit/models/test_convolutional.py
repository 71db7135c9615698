from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mgc.errors import ConfigError
from mgc.models.architecture import build_model, check_input
from mgc.models.blocks import parameter_count
from mgc.models.convolutional import Convolutional, ConvolutionalConfig, smallest_side

OBEIRNE = ConvolutionalConfig(
    filters=(16, 32, 64, 128), kernel=2, strides=(2, 1, 2, 1), padding="valid", pool=2, pool_stride=1, batch_norm=True
)
HOLST = ConvolutionalConfig(filters=(128, 128), kernel=3, padding="valid", hidden=(128,))


def layers(config: ConvolutionalConfig, shape: tuple[int, ...] = (128, 128)) -> list[nn.Module]:
    with torch.device("meta"):
        return list(Convolutional(config, shape, 10).stages)


def test_the_network_of_paper_a_layer_by_layer() -> None:
    with torch.device("meta"):
        model = Convolutional(OBEIRNE, (128, 128), 10)
    assert [type(layer) for layer in model.stages] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d] * 4
    convolutions = [layer for layer in model.stages if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in convolutions] == [(2, 2), (1, 1), (2, 2), (1, 1)]
    assert {layer.kernel_size for layer in convolutions} == {(2, 2)}
    assert {layer.padding for layer in convolutions} == {(0, 0)}
    # 128 → 64 → 63 → 62 → 61 → 30 → 29 → 28 → 27
    assert model.head.in_features == 128 * 27 * 27
    assert not len(model.dense)


def test_a_network_of_paper_d_layer_by_layer() -> None:
    config = replace(HOLST, filters=(8, 9), stage_dropout=(0.2, 0.0), dropout=0.4)
    assert [type(layer) for layer in layers(config)] == [
        nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Dropout, nn.Conv2d, nn.ReLU, nn.MaxPool2d,
    ]  # fmt: skip
    model = Convolutional(config, (20, 24, 3), 10)
    # 20 → 18 → 9 → 7 → 3; 24 → 22 → 11 → 9 → 4
    assert [layer.in_features for layer in model.dense if isinstance(layer, nn.Linear)] == [9 * 3 * 4]
    assert parameter_count(model) == (27 * 8 + 8) + (72 * 9 + 9) + (108 * 128 + 128) + (128 * 10 + 10)
    assert model.dropout.p == 0.4


def test_no_pool_is_no_layer() -> None:
    assert [type(layer) for layer in layers(replace(HOLST, pool=1))] == [nn.Conv2d, nn.ReLU] * 2


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("side", [5, 16, 21])
def test_same_padding_is_keras_padding(kernel: int, stride: int, side: int) -> None:
    """Against TensorFlow's own definition: side / stride values, rounded up, the odd zero after the last value."""
    config = ConvolutionalConfig(filters=(1,), kernel=kernel, strides=(stride,), padding="same", pool=1)
    torch.manual_seed(0)
    model = Convolutional(config, (side, side + 1), 2).eval()
    (convolution,) = (layer for layer in model.stages if isinstance(layer, nn.Conv2d))
    features_BFT = torch.randn(2, side, side + 1)
    kernel_KK, padded = convolution.weight[0, 0], []
    for size in (side, side + 1):
        total = kernel - stride if size % stride == 0 else kernel - size % stride
        padded.append((max(total, 0) // 2, max(total, 0) - max(total, 0) // 2))
    (top, bottom), (left, right) = padded
    wide_BFT = torch.nn.functional.pad(features_BFT, (left, right, top, bottom))
    windows = wide_BFT.unfold(1, kernel, stride).unfold(2, kernel, stride)
    wanted = torch.relu((windows * kernel_KK).sum(dim=(3, 4)) + convolution.bias)
    assert wanted.shape[1:] == (-(-side // stride), -(-(side + 1) // stride))
    torch.testing.assert_close(model.embed(features_BFT), wanted.flatten(1), rtol=1e-4, atol=1e-5)


def test_xavier_initialisation() -> None:
    torch.manual_seed(0)
    model = Convolutional(replace(OBEIRNE, hidden=(40,)), (64, 64), 10)
    weighted = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 6
    for layer in weighted:
        fan_out, fan_in = layer.weight.shape[0], layer.weight[0].numel()
        if isinstance(layer, nn.Conv2d):
            fan_out *= 4
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.8 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert float(layer.bias.detach().abs().max()) == 0.0
    other = Convolutional(replace(OBEIRNE, init="torch"), (64, 64), 10)
    assert float(other.head.bias.detach().abs().max()) > 0.0


@pytest.mark.parametrize(
    ("config", "side"),
    [
        (OBEIRNE, 22),
        (HOLST, 10),
        (replace(HOLST, padding="same"), 4),
        (replace(HOLST, filters=(8,) * 6, padding="same", kernel=5), 64),
        (replace(HOLST, pool=1), 5),
        (replace(HOLST, pool=3, pool_stride=2, strides=(3, 2)), 45),
    ],
)
def test_too_small_an_input_is_one_clear_line(config: ConvolutionalConfig, side: int) -> None:
    config = replace(config, filters=(2,) * len(config.filters))
    assert smallest_side(config) == side
    assert build_model(config, (side, side + 7), 3)(torch.randn(2, side, side + 7)).shape == (2, 3)
    assert build_model(config, (side + 3, side, 3), 3)(torch.randn(2, side + 3, side, 3)).shape == (2, 3)
    message = (
        f"model convolutional needs at least {side} bins and {side} frames, but the front end gives {side - 1} bins"
    )
    with pytest.raises(ConfigError, match=message):
        build_model(config, (side - 1, side), 3)
    with pytest.raises(ConfigError, match=f"needs at least {side} lines and {side} columns, .* {side - 1} columns"):
        check_input(config, (side, side - 1, 3))


def test_the_colours_are_channels_whatever_their_place_in_memory() -> None:
    torch.manual_seed(0)
    model = Convolutional(ConvolutionalConfig(filters=(3,), pool=1), (4, 5, 3), 2).eval()
    image_BHWC = torch.randn(2, 4, 5, 3)
    (convolution,) = (layer for layer in model.stages if isinstance(layer, nn.Conv2d))
    wanted = torch.relu(convolution(image_BHWC.permute(0, 3, 1, 2).contiguous())).flatten(1)
    torch.testing.assert_close(model.embed(image_BHWC), wanted)
