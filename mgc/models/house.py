"""mgc's own small CNN: residual 3 × 3 convolutions with normalisation, pooled over the whole clip.

Axes: B batch, C channels, F mel bins, T frames, D embedding, G genres.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier, ConvNormRelu, MeanMaxPool, Normalized, normalization_layer


@dataclass(frozen=True, config=STRICT)
class HouseCnnConfig:
    """Configuration of `HouseCnn`.

    Attributes:
        channels: width of each stage; every stage halves bins and frames (rounded up), the first as `stem` says.
        stem: stride of the first stage; 4 comes with 7 × 7 filters, and needs a quarter of the work.
        blocks: residual blocks in each stage.
        keep_bins: whether to pool over frames only, so that the head can tell pitch; else over bins too.
        dropout: share of the embedding zeroed in training.
        normalization: `batch`, over the clips that a worker computes at once, or `group`, over a group of channels of
            one clip (Wu and He 2018): training then does not depend on how a batch is divided.
    """

    kind: Literal["house_cnn"] = "house_cnn"
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=6)] = (
        24,
        48,
        96,
        128,
    )
    stem: Literal[2, 4] = 2
    blocks: Annotated[int, Field(ge=0, le=8)] = 1
    keep_bins: bool = False
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    normalization: Normalized = "batch"


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions around an identity (He et al. 2016)."""

    def __init__(self, channels: int, normalization: Normalized = "batch") -> None:
        super().__init__()
        self.first = ConvNormRelu(channels, channels, normalization=normalization)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), normalization_layer(normalization, channels)
        )

    def forward(self, maps_BCFT: torch.Tensor) -> torch.Tensor:
        """Return maps of the same shape."""
        return torch.relu(maps_BCFT + self.second(self.first(maps_BCFT)))


class HouseCnn(Classifier):
    """Stages of a strided convolution and residual blocks, mean and max pooled, one linear layer.

    Any number of frames works, and any number of bins unless they are kept. Because of the pooling, the answer hardly
    depends on where in the clip something sounds.

    Args:
        config: width and depth.
        genres: number of logits.
        bins: bins of the features; only matters if they are kept.
    """

    head: nn.Linear

    def __init__(self, config: HouseCnnConfig, genres: int, bins: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for stage, channels in enumerate(config.channels):
            stride = 2 if stage else config.stem
            layers.append(ConvNormRelu(width, channels, 2 * stride - 1, stride, config.normalization))
            layers.extend(ResidualBlock(channels, config.normalization) for _ in range(config.blocks))
            width = channels
        self.stages = nn.Sequential(*layers)
        self.pool = MeanMaxPool(config.keep_bins)
        self.dropout = nn.Dropout(config.dropout)
        rows = -(-bins // (config.stem * 2 ** (len(config.channels) - 1))) if config.keep_bins else 1
        self._pooled, self._keeps_bins = 2 * width, config.keep_bins
        self.head = nn.Linear(2 * width * rows, genres)

    def start_from(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Load the weights of another training; see `Classifier.start_from`.

        A head that keeps bins apart fits features with more bins too: it is loaded without the rows of the highest.
        """
        head = self.head
        rows = head.in_features // self._pooled
        head_GD = weights.get("head.weight")
        if head_GD is not None and head_GD.shape[1] > head.in_features and self._keeps_bins:
            head_GCR = head_GD.unflatten(1, (self._pooled, -1))
            weights = {**weights, "head.weight": head_GCR[:, :, :rows].flatten(1)}
        super().start_from(weights)

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return mean and maximum of the last stage: (B, 2 · channels[-1]), for each bin if bins are kept."""
        maps_BCFT = features_BFT.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        pooled: torch.Tensor = self.pool(self.stages(maps_BCFT))
        return pooled

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G)."""
        logits_BG: torch.Tensor = self.head(self.dropout(embedding_BD))
        return logits_BG
