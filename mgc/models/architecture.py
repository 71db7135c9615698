"""All architectures, by their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, assert_never

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from mgc.errors import ConfigError, shorten
from mgc.models.blocks import Classifier
from mgc.models.convolutional import Convolutional, ConvolutionalConfig, smallest_side
from mgc.models.dense import Dense, DenseConfig
from mgc.models.ensemble import AnyMemberConfig, Ensemble, EnsembleConfig
from mgc.models.guess import Guess, GuessConfig
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.models.mobilenet import MobileNet, MobileNetConfig
from mgc.models.musicnn import Musicnn, MusicnnConfig
from mgc.models.probe import Probe, ProbeConfig
from mgc.models.recurrent import Recurrent, RecurrentConfig, smallest_frames
from mgc.models.statistics import Statistics, StatisticsConfig

AnyModelConfig = AnyMemberConfig | GuessConfig | ProbeConfig | EnsembleConfig

ModelConfig = Annotated[AnyModelConfig, Field(discriminator="kind")]
"""The configuration of any network; `kind` says which."""

_SIDES = {2: ("bins", "frames"), 3: ("lines", "columns")}


def build_model(config: AnyModelConfig, input_shape: tuple[int, ...], genres: int) -> Classifier:
    """Return a new network, with weights from torch's global generator.

    Args:
        config: kind and size of the network.
        input_shape: shape of the features of one clip.
        genres: number of logits.

    Raises:
        ConfigError: the network does not take features of this shape.
    """
    check_input(config, input_shape)
    match config:
        case HouseCnnConfig():
            return HouseCnn(config, genres, input_shape[0])
        case ConvolutionalConfig():
            return Convolutional(config, input_shape, genres)
        case DenseConfig():
            return Dense(config, input_shape, genres)
        case RecurrentConfig():
            return Recurrent(config, input_shape[0], genres)
        case StatisticsConfig():
            return Statistics(config, input_shape[0], genres)
        case GuessConfig():
            return Guess(config, genres)
        case MobileNetConfig():
            return MobileNet(config, genres, input_shape[0])
        case MusicnnConfig():
            return Musicnn(config, input_shape[0], genres)
        case ProbeConfig():
            # What a removed head had for outputs does not matter.
            return Probe(config, build_model(config.body, input_shape, config.sounds or 1), genres)
        case EnsembleConfig():
            return Ensemble([build_model(member, input_shape, genres) for member in config.members])
        case _:
            assert_never(config)


def load_model(config: AnyModelConfig, input_shape: tuple[int, ...], outputs: int, weights: bytes) -> Classifier:
    """Return a network with these weights, in evaluation mode.

    Args:
        config: kind and size of the network.
        input_shape: shape of the features of one clip.
        outputs: number of logits.
        weights: bytes of a safetensors file.

    Raises:
        ConfigError: the network does not take features of this shape.
        ValueError: the weights are those of another network, or no safetensors.
    """
    try:
        tensors = load_tensors(weights)
    except SafetensorError as error:
        raise ValueError(f"no safetensors ({shorten(error)})") from None
    # A configuration may claim a network of any size, so it is built without memory until the weights are all there.
    # Some operators are written in Python there, and import PyTorch's compiler, which takes longer than all else here.
    with torch.device("meta"):
        wanted = build_model(config, input_shape, outputs).state_dict()
    if _shapes(tensors) != _shapes(wanted):
        raise ValueError(f"not the weights of this {config.kind} with {outputs} outputs")
    model = build_model(config, input_shape, outputs)
    model.load_state_dict(tensors)
    return model.eval()


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def takes_any_frames(config: AnyModelConfig) -> bool:
    """Return whether a network takes clips of more or fewer frames than it was built for."""
    pooled = HouseCnnConfig | StatisticsConfig | MobileNetConfig | MusicnnConfig
    return all(isinstance(each, pooled) for each in _networks(config))


def graph_takes_any_frames(config: AnyModelConfig) -> bool:
    """Return whether a graph of the network does so, too. That of statistics holds a transform of so many frames."""
    return takes_any_frames(config) and not any(isinstance(each, StatisticsConfig) for each in _networks(config))


def _networks(config: AnyModelConfig) -> tuple[AnyModelConfig, ...]:
    """Return the networks that see the features: the members of an ensemble, the body of a probe, or the one."""
    if isinstance(config, ProbeConfig):
        return _networks(config.body)
    return config.members if isinstance(config, EnsembleConfig) else (config,)


def count_sounds(config: AnyModelConfig) -> int:
    """Return how many sounds a network names besides genres."""
    return config.sounds if isinstance(config, ProbeConfig) else 0


def check_input(config: AnyModelConfig, input_shape: tuple[int, ...]) -> None:
    """Refuse features with another number of axes than the network takes, or too small for it.

    Args:
        config: configuration of the network.
        input_shape: shape of the features of one clip: (numbers,), (bins, frames) or (height, width, colours).

    Raises:
        ConfigError: the features do not fit; names both.
    """
    axes: tuple[int, ...]
    match config:
        case DenseConfig(mean_over_time=True):
            axes, smallest = (2,), (1, 1)
        case DenseConfig() | GuessConfig():
            return
        case EnsembleConfig():
            for member in config.members:
                check_input(member, input_shape)
            return
        case ProbeConfig():
            check_input(config.body, input_shape)
            return
        case HouseCnnConfig() | MobileNetConfig() | MusicnnConfig():
            axes, smallest = (2,), (1, 1)
        case ConvolutionalConfig():
            side = smallest_side(config)
            axes, smallest = (2, 3), (side, side)
        case RecurrentConfig():
            axes, smallest = (2,), (1, smallest_frames(config))
        case StatisticsConfig():
            axes, smallest = (2,), (1, 2)
        case _:
            assert_never(config)
    if len(input_shape) not in axes:
        taken = "bins x frames or height x width x colours" if 3 in axes else "bins x frames"
        raise ConfigError(
            f"model {config.kind} takes features of {taken}, "
            f"but the front end gives {' x '.join(map(str, input_shape))} numbers; choose another model or front end."
        )
    if any(found < needed for found, needed in zip(input_shape, smallest, strict=False)):
        first, second = _SIDES[len(input_shape)]
        raise ConfigError(
            f"model {config.kind} needs at least {smallest[0]} {first} and {smallest[1]} {second}, "
            f"but the front end gives {input_shape[0]} {first} and {input_shape[1]} {second}; "
            "choose a smaller model or longer clips."
        )
