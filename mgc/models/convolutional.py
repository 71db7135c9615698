"""Convolutional networks as in the papers: stages of a convolution and a max-pool, dense layers, an output.

Axes: B batch, C channels, F mel bins or lines, T frames or columns, D embedding, G genres.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self, TypeVar

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier, Init, Share, Width, initialise

_MOST_STAGES = 12

Stride = Annotated[int, Field(ge=1, le=16)]
Value = TypeVar("Value")


@dataclass(frozen=True, config=STRICT)
class ConvolutionalConfig:
    """Configuration of `Convolutional`.

    A stage is a convolution with bias, optional batch normalisation, ReLU, max-pool and dropout.

    Attributes:
        filters: filters of each convolution.
        kernel: side of the kernels.
        strides: stride of each convolution; a single value is for all.
        padding: `valid` pads nothing; `same` pads with zeros so that a convolution gives side / stride values, rounded
            up, one more after than before where they do not divide (Keras' rule). Max-pools never pad.
        pool: side of the max-pools; 1 for none.
        pool_stride: stride of the max-pools.
        batch_norm: whether convolutions are followed by batch normalisation.
        stage_dropout: share zeroed after each stage; a single value is for all.
        hidden: units of the dense layers (with ReLU) between the flattened maps and the output.
        dropout: share zeroed before the output.
        init: initialisation of the weights.
    """

    kind: Literal["convolutional"] = "convolutional"
    filters: Annotated[tuple[Width, ...], Field(min_length=1, max_length=_MOST_STAGES)] = (32, 64)
    kernel: Annotated[int, Field(ge=1, le=31)] = 3
    strides: Annotated[tuple[Stride, ...], Field(min_length=1, max_length=_MOST_STAGES)] = (1,)
    padding: Literal["valid", "same"] = "same"
    pool: Annotated[int, Field(ge=1, le=16)] = 2
    pool_stride: Annotated[int, Field(ge=1, le=16)] = 2
    batch_norm: bool = False
    stage_dropout: Annotated[tuple[Share, ...], Field(min_length=1, max_length=_MOST_STAGES)] = (0.0,)
    hidden: Annotated[tuple[Width, ...], Field(max_length=8)] = ()
    dropout: Share = 0.0
    init: Init = "xavier"

    @model_validator(mode="after")
    def _one_a_stage(self) -> Self:
        stages = len(self.filters)
        for name, found in (("strides", len(self.strides)), ("stage_dropout", len(self.stage_dropout))):
            if found not in (1, stages):
                raise ValueError(f"{name}: {found} values, but {stages} stages of filters take one, or one each")
        return self

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """The stride of each stage."""
        return _each(self.strides, len(self.filters))

    def convolved(self, side: int, stride: int) -> int:
        """Return the number of values along one axis after a convolution."""
        return -(-side // stride) if self.padding == "same" else (side - self.kernel) // stride + 1

    def pooled(self, side: int) -> int:
        """Return the number of values along one axis after a max-pool."""
        return side if self.pool == 1 else (side - self.pool) // self.pool_stride + 1

    def padded(self, side: int, stride: int) -> tuple[int, int]:
        """Return the zeros before and after one axis of the input of a convolution."""
        if self.padding == "valid":
            return 0, 0
        total = max(0, (self.convolved(side, stride) - 1) * stride + self.kernel - side)
        return total // 2, total - total // 2


def smallest_side(config: ConvolutionalConfig) -> int:
    """Return the fewest bins, and frames, that leave one value after the last stage."""
    side = 1
    for stride in reversed(config.stage_strides):
        if config.pool > 1:
            side = (side - 1) * config.pool_stride + config.pool
        side = (side - 1) * stride + (config.kernel if config.padding == "valid" else 1)
    return side


class Convolutional(Classifier):
    """A plain convolutional network. Its first dense layer fixes the shape of the input.

    Args:
        config: layers.
        input_shape: shape of the features of one clip: (bins, frames), or (height, width, colours), at least
            `smallest_side`.
        genres: number of logits.
    """

    def __init__(self, config: ConvolutionalConfig, input_shape: tuple[int, ...], genres: int) -> None:
        super().__init__()
        height, width, *colours = input_shape
        channels = colours[0] if colours else 1
        layers: list[nn.Module] = []
        dropouts = _each(config.stage_dropout, len(config.filters))
        for filters, stride, dropout in zip(config.filters, config.stage_strides, dropouts, strict=True):
            (top, bottom), (left, right) = config.padded(height, stride), config.padded(width, stride)
            even = top == bottom and left == right
            if not even:
                layers.append(nn.ZeroPad2d((left, right, top, bottom)))
            layers.append(nn.Conv2d(channels, filters, config.kernel, stride, (top, left) if even else 0))
            if config.batch_norm:
                layers.append(nn.BatchNorm2d(filters))
            layers.append(nn.ReLU(inplace=True))
            if config.pool > 1:
                layers.append(nn.MaxPool2d(config.pool, config.pool_stride))
            if dropout:
                layers.append(nn.Dropout(dropout))
            height, width = (config.pooled(config.convolved(side, stride)) for side in (height, width))
            channels = filters
        self.stages = nn.Sequential(*layers)
        sizes = [channels * height * width, *config.hidden]
        self.dense = nn.Sequential(
            *(layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU()))
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(sizes[-1], genres)
        initialise(self, config.init)

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return the input of the output layer (B, D): activations of the last dense layer, or the flattened maps."""
        maps_BCFT = features_BFT.unsqueeze(1) if features_BFT.ndim == 3 else features_BFT.permute(0, 3, 1, 2)
        maps_BCFT = self.stages(maps_BCFT.contiguous(memory_format=torch.channels_last))
        embedding_BD: torch.Tensor = self.dense(maps_BCFT.flatten(1))
        return embedding_BD

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G)."""
        logits_BG: torch.Tensor = self.head(self.dropout(embedding_BD))
        return logits_BG


def _each(values: tuple[Value, ...], stages: int) -> tuple[Value, ...]:
    """Return one value per stage."""
    return values * stages if len(values) == 1 else values
