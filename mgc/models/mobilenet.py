"""MobileNetV3-Large for spectrograms, of any width.

The network is that of A. Howard et al., Searching for MobileNetV3, ICCV 2019, table 1, on one input plane. F. Schmid,
K. Koutini and G. Widmer (Efficient large-scale audio tagging via transformer-to-CNN knowledge distillation, ICASSP
2023) trained it on AudioSet at several widths.

Axes: B batch, C channels, F mel bins, T frames, D embedding, G genres.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier, Share, Width
from mgc.models.thumbnail_input import MelAxis, ThumbnailInput, kaldi_centres_hz

_MULTIPLE: Final = 8
"""Numbers of channels are multiples of this."""

_BATCH_NORM_EPSILON: Final = 1e-3
_BATCH_NORM_MOMENTUM: Final = 0.01
"""Both are those of the paper's implementation."""


class _Stage(NamedTuple):
    """A row of the paper's table: sizes at width 1."""

    kernel: int
    expanded: int
    channels: int
    squeezes: bool
    hard_swish: bool
    stride: int


_STEM: Final = 16
_STAGES: Final = (
    _Stage(3, 16, 16, False, False, 1),
    _Stage(3, 64, 24, False, False, 2),
    _Stage(3, 72, 24, False, False, 1),
    _Stage(5, 72, 40, True, False, 2),
    _Stage(5, 120, 40, True, False, 1),
    _Stage(5, 120, 40, True, False, 1),
    _Stage(3, 240, 80, False, True, 2),
    _Stage(3, 200, 80, False, True, 1),
    _Stage(3, 184, 80, False, True, 1),
    _Stage(3, 184, 80, False, True, 1),
    _Stage(3, 480, 112, True, True, 1),
    _Stage(3, 672, 112, True, True, 1),
    _Stage(5, 672, 160, True, True, 2),
    _Stage(5, 960, 160, True, True, 1),
    _Stage(5, 960, 160, True, True, 1),
)
_LAYERS: Final = len(_STAGES) + 2
"""Layers below the head: the first convolution, the stages, the last convolution."""

_LAST: Final = 6
"""The last convolution has this many times the channels of the last stage."""

_AXIS: Final = MelAxis(kaldi_centres_hz(15_000.0, 128), middle=0.15, deviation=0.6)
"""The bands of `mgc.features.kaldi_mel.KaldiMelConfig`, and what EfficientAT's networks see of music there."""


@dataclass(frozen=True, config=STRICT)
class MobileNetConfig:
    """Configuration of `MobileNet`.

    Attributes:
        width: factor of all numbers of channels.
        hidden: units of the dense layer between the embedding and the output.
        dropout: share zeroed after it.
        input: `mel` takes features as they are. `thumbnail` takes thumbnails, brings them to the mel axis of
            `kaldi_mel` and stretches them in time: a published network can then train on from its weights.
        frames: with `thumbnail`, frames in training.
        scored_frames: with `thumbnail`, frames when scored.
        freeze: layers, from the input on, that are not trained: 1 is the first convolution, 17 all below the head.
    """

    kind: Literal["mobilenet"] = "mobilenet"
    width: Annotated[float, Field(ge=0.1, le=4.0)] = 0.4
    hidden: Width = 512
    dropout: Share = 0.2
    input: Literal["mel", "thumbnail"] = "mel"
    frames: Annotated[int, Field(ge=1, le=10_000)] = 384
    scored_frames: Annotated[int, Field(ge=1, le=10_000)] = 512
    freeze: Annotated[int, Field(ge=0, le=_LAYERS)] = 0


class _SqueezeExcitation(nn.Module):
    """Scales each channel by a number from 0 to 1 that depends on the means of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, _round_channels(channels / 4))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def forward(self, maps_BCFT: torch.Tensor) -> torch.Tensor:
        means_BC = maps_BCFT.mean((2, 3))
        scale_BC: torch.Tensor = self.excite(self.squeeze(means_BC).relu()).sigmoid()
        return maps_BCFT * scale_BC[:, :, None, None]


class _Bottleneck(nn.Module):
    """Widen, convolve each channel by itself, scale channels, narrow; around an identity where shapes allow it."""

    def __init__(self, channels_in: int, stage: _Stage, width: float) -> None:
        super().__init__()
        expanded, channels = _round_channels(stage.expanded * width), _round_channels(stage.channels * width)
        layers: list[nn.Module] = []
        if expanded != channels_in:
            layers.append(_convolution(channels_in, expanded, hard_swish=stage.hard_swish))
        layers.append(
            _convolution(expanded, expanded, stage.kernel, stage.stride, groups=expanded, hard_swish=stage.hard_swish)
        )
        if stage.squeezes:
            layers.append(_SqueezeExcitation(expanded))
        layers.append(_convolution(expanded, channels, hard_swish=None))
        self.layers = nn.Sequential(*layers)
        self._has_identity = stage.stride == 1 and channels == channels_in

    def forward(self, maps_BCFT: torch.Tensor) -> torch.Tensor:
        narrowed_BCFT: torch.Tensor = self.layers(maps_BCFT)
        return maps_BCFT + narrowed_BCFT if self._has_identity else narrowed_BCFT


class MobileNet(Classifier):
    """Convolutions, their mean over frequency and time as the embedding, and two dense layers as the head.

    Any number of bins and frames works.

    Args:
        config: width of the network.
        genres: number of logits.
        bins: bins of the features; only matters if they are thumbnails.
    """

    def __init__(self, config: MobileNetConfig, genres: int, bins: int = 128) -> None:
        super().__init__()
        self.input = (
            ThumbnailInput(_AXIS, bins, config.frames, config.scored_frames)
            if config.input == "thumbnail"
            else nn.Identity()
        )
        channels = _round_channels(_STEM * config.width)
        layers: list[nn.Module] = [_convolution(1, channels, 3, 2, hard_swish=True)]
        for stage in _STAGES:
            layers.append(_Bottleneck(channels, stage, config.width))
            channels = _round_channels(stage.channels * config.width)
        layers.append(_convolution(channels, _LAST * channels, hard_swish=True))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(_LAST * channels, config.hidden),
            nn.Hardswish(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, genres),
        )
        self.freeze(f"layers.{number}" for number in range(config.freeze))

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return the means of the last maps, (B, D)."""
        maps_BCFT: torch.Tensor = self.layers(self.input(features_BFT).unsqueeze(1))
        return maps_BCFT.mean((2, 3))

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G)."""
        logits_BG: torch.Tensor = self.head(embedding_BD)
        return logits_BG


def _convolution(
    channels_in: int,
    channels_out: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    hard_swish: bool | None = None,
) -> nn.Sequential:
    """Return convolution, batch normalisation and activation: hard-swish, ReLU, or none if `hard_swish` is None."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out, eps=_BATCH_NORM_EPSILON, momentum=_BATCH_NORM_MOMENTUM),
    ]
    if hard_swish is not None:
        layers.append(nn.Hardswish(inplace=True) if hard_swish else nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _round_channels(wanted: float) -> int:
    """Return the nearest multiple of 8, but never less than nine tenths of what is wanted."""
    rounded = max(_MULTIPLE, int(wanted + _MULTIPLE / 2) // _MULTIPLE * _MULTIPLE)
    return rounded + _MULTIPLE if rounded < 0.9 * wanted else rounded
