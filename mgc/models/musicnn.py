"""The network of musicnn: filters of musically motivated shapes, then convolutions over time.

J. Pons and X. Serra, musicnn: Pre-trained convolutional neural networks for music audio tagging, late-breaking demo of
ISMIR 2019. The architecture comes from J. Pons et al., End-to-end learning for music audio tagging at scale, ISMIR
2018.

Axes: B batch, C channels, F mel bins, T frames, D embedding, G genres.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn
from torch.autograd.function import BackwardCFunction, FunctionCtx
from torch.nn.functional import conv1d, pad

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier, Share, Width
from mgc.models.thumbnail_input import MelAxis, ThumbnailInput, slaney_centres_hz

_TIMBRE_FRAMES: Final = 7
_TIMBRE_SHARES: Final = (0.4, 0.7)
"""Heights of the timbral filters, as shares of the mel bins."""

_RHYTHM_FRAMES: Final = (128, 64, 32)
"""Lengths of the temporal filters."""

_MIDDLE_FRAMES: Final = 7
_MIDDLE_LAYERS: Final = 3
_BATCH_NORM_EPSILON: Final = 1e-3
_BATCH_NORM_MOMENTUM: Final = 0.01
"""Both are TensorFlow's defaults."""

_AXIS: Final = MelAxis(slaney_centres_hz(8_000.0, 96), middle=2.2, deviation=1.26)
"""The bands of `mgc.features.compressed_mel.CompressedMelConfig`. Mean and deviation are those that the published
network's first normalisation kept of its training set."""

_STAGES: Final = (("input", "timbres", "rhythms"), *((f"middle.{n}",) for n in range(_MIDDLE_LAYERS)), ("hidden",))
"""Names of the layers below the head, stage by stage."""


@dataclass(frozen=True, config=STRICT)
class MusicnnConfig:
    """Configuration of `Musicnn`.

    Attributes:
        timbres: filters of each timbral height.
        rhythms: filters of each temporal length.
        middle: filters of each convolution over time.
        hidden: units of the dense layer whose output is the embedding.
        dropout: share zeroed before the dense and the output layer.
        input: `mel` takes features as they are. `thumbnail` takes thumbnails, brings them to the mel axis of
            `compressed_mel` and stretches them in time: the published network can then train on from its weights.
        frames: with `thumbnail`, frames in training.
        scored_frames: with `thumbnail`, frames when scored.
        freeze: stages, from the input on, that are not trained: 1 is the filters, 2 to 4 the convolutions over time,
            5 the dense layer too.
    """

    kind: Literal["musicnn"] = "musicnn"
    timbres: Width = 204
    rhythms: Width = 51
    middle: Width = 64
    hidden: Width = 200
    dropout: Share = 0.5
    input: Literal["mel", "thumbnail"] = "mel"
    frames: Annotated[int, Field(ge=1, le=10_000)] = 96
    scored_frames: Annotated[int, Field(ge=1, le=10_000)] = 128
    freeze: Annotated[int, Field(ge=0, le=len(_STAGES))] = 0


class Musicnn(Classifier):
    """Timbral and temporal filters, their maximum over frequency, three convolutions over time, pooling, dense layers.

    Any number of frames works.

    Args:
        config: sizes of the layers.
        bins: mel bins of the features.
        genres: number of logits.
    """

    def __init__(self, config: MusicnnConfig, bins: int, genres: int) -> None:
        super().__init__()
        self.thumbnail = None
        if config.input == "thumbnail":
            self.thumbnail = ThumbnailInput(_AXIS, bins, config.frames, config.scored_frames)
            bins = len(_AXIS.centres_hz)
        self.input = _batch_norm(nn.BatchNorm2d, 1)
        # The filters can take over its scale and offset, whose gradients would cost a sixth of a training step.
        self.input.requires_grad_(False)
        heights = [max(1, int(share * bins)) for share in _TIMBRE_SHARES]
        self.timbres = nn.ModuleList(_Filters(config.timbres, _TIMBRE_FRAMES, height) for height in heights)
        self.rhythms = nn.ModuleList(_Filters(config.rhythms, frames, 1) for frames in _RHYTHM_FRAMES)
        width = len(heights) * config.timbres + len(_RHYTHM_FRAMES) * config.rhythms
        self.middle = nn.ModuleList(
            _OverTime(config.middle if number else width, config.middle) for number in range(_MIDDLE_LAYERS)
        )
        pooled = 2 * (width + _MIDDLE_LAYERS * config.middle)
        self.hidden = nn.Sequential(
            _batch_norm(nn.BatchNorm1d, pooled),
            nn.Dropout(config.dropout),
            nn.Linear(pooled, config.hidden),
            nn.ReLU(),
            _batch_norm(nn.BatchNorm1d, config.hidden),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, genres)
        self.freeze(name for stage in _STAGES[: config.freeze] for name in stage)

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return activations of the dense layer, (B, D)."""
        if self.thumbnail is not None:
            features_BFT = self.thumbnail(features_BFT)
        maps_B1FT = self.input(features_BFT.unsqueeze(1))
        found_BCT = torch.cat([filters(maps_B1FT) for filters in [*self.timbres, *self.rhythms]], dim=1)
        parts = [found_BCT]
        for number, layer in enumerate(self.middle):
            parts.append(layer(parts[-1]) + parts[-1] if number else layer(parts[-1]))
        maps_BCT = torch.cat(parts, dim=1)
        # For each channel, its maximum and its mean lie side by side.
        pooled_BC2 = torch.stack([maps_BCT.amax(2), maps_BCT.mean(2)], dim=2)
        embedding_BD: torch.Tensor = self.hidden(pooled_BC2.flatten(1))
        return embedding_BD

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G)."""
        logits_BG: torch.Tensor = self.head(self.dropout(embedding_BD))
        return logits_BG


class _Filters(nn.Module):
    """Filters over a clip, and their maximum over frequency: (B, 1, F, T) → (B, C, T)."""

    def __init__(self, channels: int, frames: int, height: int) -> None:
        super().__init__()
        # As many frames come out as go in. TensorFlow pads an even length less in front than behind.
        self._padding = ((frames - 1) // 2, frames // 2)
        self.convolution = nn.Conv2d(1, channels, (height, frames))
        self.normalization = _batch_norm(nn.BatchNorm2d, channels)

    def forward(self, maps_B1FT: torch.Tensor) -> torch.Tensor:
        padded_B1FT = pad(maps_B1FT, self._padding)
        found_BCFT = (self._over_rows(padded_B1FT) if self.training else self.convolution(padded_B1FT)).relu_()
        layer = self.normalization
        # Training may have put another normalisation here, or compute with half the bits, and GPUs have a fast one.
        on_cpu = found_BCFT.device.type == "cpu" and found_BCFT.dtype == torch.float32
        if on_cpu and layer.training and type(layer) is nn.BatchNorm2d:
            return self._highest_normalised(found_BCFT, layer)
        maps_BCFT: torch.Tensor = layer(found_BCFT)
        return maps_BCFT.amax(2)

    def _highest_normalised(self, maps_BCFT: torch.Tensor, layer: nn.BatchNorm2d) -> torch.Tensor:
        highest_BCT: torch.Tensor
        highest_BCT, mean_C, variance_C = _HighestNormalised.apply(maps_BCFT, layer.weight, layer.bias, layer.eps)
        count = maps_BCFT.numel() // maps_BCFT.shape[1]
        layer.get_buffer("running_mean").lerp_(mean_C, _BATCH_NORM_MOMENTUM)
        layer.get_buffer("running_var").lerp_(variance_C * (count / max(1, count - 1)), _BATCH_NORM_MOMENTUM)
        layer.get_buffer("num_batches_tracked").add_(1)
        return highest_BCT

    def _over_rows(self, maps_B1FT: torch.Tensor) -> torch.Tensor:
        """Return what the convolution does, with the rows under a filter as channels of a convolution over time.

        PyTorch's gradients of a high convolution of one channel take three to five times as long on a CPU.
        """
        weight, bias = self.convolution.weight, self.convolution.bias
        height = weight.shape[2]
        found_BCFT: torch.Tensor
        if height == 1:
            found_BCFT = self.convolution(maps_B1FT)
            return found_BCFT
        rows_BFTH = maps_B1FT.squeeze(1).unfold(1, height, 1)
        found_NCT = conv1d(rows_BFTH.flatten(0, 1).transpose(1, 2), weight.squeeze(1), bias)
        found_BCFT = found_NCT.unflatten(0, rows_BFTH.shape[:2]).transpose(1, 2)
        return found_BCFT


class _OverTime(nn.Module):
    """A convolution over time: (B, C, T) → (B, C', T)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels_in, channels, _MIDDLE_FRAMES, padding=_MIDDLE_FRAMES // 2)
        self.normalization = _batch_norm(nn.BatchNorm1d, channels)

    def forward(self, maps_BCT: torch.Tensor) -> torch.Tensor:
        normalised_BCT: torch.Tensor = self.normalization(self.convolution(maps_BCT).relu())
        return normalised_BCT


class _HighestNormalised(torch.autograd.Function):
    """What `layer(maps_BCFT).amax(2)` is, for a normalisation by the statistics of the batch.

    Normalisation scales and moves a channel, so the row that is highest is known before it. The normalised maps and
    their gradients are never written, which halves a training step on a CPU. The gradients are those of S. Ioffe and
    C. Szegedy, Batch Normalization, ICML 2015, section 3, where only the highest rows have one of their own.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, maps_BCFT: torch.Tensor, scale_C: torch.Tensor, offset_C: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the highest normalised values, (B, C, T), and mean and variance of each channel, (C)."""
        batch, _, rows, frames = maps_BCFT.shape
        count = batch * rows * frames
        mean_C = maps_BCFT.sum(3).sum((0, 2)) / count
        # First along the frames, which lie side by side: one pass over all axes takes three times as long.
        squares_C = torch.linalg.vector_norm(maps_BCFT, dim=3).square().sum((0, 2)) / count
        variance_C = (squares_C - mean_C.square()).clamp_min(0.0)
        highest = maps_BCFT.max(2, keepdim=True)
        if (turned_C := scale_C < 0).any():
            lowest = maps_BCFT.min(2, keepdim=True)
            turned_C111 = turned_C[:, None, None]
            values_BC1T = torch.where(turned_C111, lowest.values, highest.values)
            places_BC1T = torch.where(turned_C111, lowest.indices, highest.indices)
        else:
            values_BC1T, places_BC1T = highest
        inverse_C = (variance_C + epsilon).rsqrt()
        normal_BCT = (values_BC1T.squeeze(2) - mean_C[:, None]) * inverse_C[:, None]
        ctx.save_for_backward(maps_BCFT, scale_C, mean_C, inverse_C, normal_BCT, places_BC1T)
        ctx.mark_non_differentiable(mean_C, variance_C)
        return normal_BCT * scale_C[:, None] + offset_C[:, None], mean_C, variance_C

    @staticmethod
    def backward(
        ctx: BackwardCFunction, gradient_BCT: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of maps, scale and offset."""
        saved: tuple[torch.Tensor, ...] = ctx.saved_tensors
        maps_BCFT, scale_C, mean_C, inverse_C, normal_BCT, places_BC1T = saved
        count = maps_BCFT.numel() // maps_BCFT.shape[1]
        offset_C = gradient_BCT.sum((0, 2))
        spread_C = (gradient_BCT * normal_BCT).sum((0, 2))
        gain_C = scale_C * inverse_C
        slope_C = -gain_C * inverse_C * spread_C / count
        level_C = -gain_C * offset_C / count - slope_C * mean_C
        gradient_BCFT = torch.addcmul(level_C[:, None, None], maps_BCFT, slope_C[:, None, None])
        gradient_BCFT.scatter_add_(2, places_BC1T, (gradient_BCT * gain_C[:, None]).unsqueeze(2))
        return gradient_BCFT, spread_C, offset_C, None


def _batch_norm(layer: type[nn.BatchNorm1d | nn.BatchNorm2d], channels: int) -> nn.Module:
    return layer(channels, eps=_BATCH_NORM_EPSILON, momentum=_BATCH_NORM_MOMENTUM)
