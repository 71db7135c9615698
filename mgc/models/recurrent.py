"""Recurrent networks: convolutions along time, with the mel bins as channels, followed by LSTM layers.

Axes: B batch, F mel bins, T frames, C channels, S steps of time after the pooling, D embedding, G genres.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier, Share, Width

_MOST_STAGES = 12


@dataclass(frozen=True, config=STRICT)
class RecurrentConfig:
    """Configuration of `Recurrent`.

    A stage is a convolution with bias, optional batch normalisation, ReLU, max-pool and dropout. PyTorch's own
    initialisation draws the weights.

    Attributes:
        filters: filters of each convolution.
        kernels: frames that each convolution sees.
        paddings: zeros before and after the input of each convolution.
        pool: frames and stride of the max-pools; 1 for none.
        batch_norm: whether convolutions are followed by batch normalisation.
        dropout: share zeroed after each stage.
        lstm_width: units of each LSTM layer.
        lstm_layers: number of stacked LSTM layers.
        summary: output of the last LSTM layer that is used: the `last` step, or the `mean` over the steps.
    """

    kind: Literal["recurrent"] = "recurrent"
    filters: Annotated[tuple[Width, ...], Field(min_length=1, max_length=_MOST_STAGES)] = (64, 32, 16)
    kernels: tuple[Annotated[int, Field(ge=1, le=99)], ...] = (5, 3, 3)
    paddings: tuple[Annotated[int, Field(ge=0, le=49)], ...] = (2, 1, 1)
    pool: Annotated[int, Field(ge=1, le=16)] = 2
    batch_norm: bool = True
    dropout: Share = 0.0
    lstm_width: Width = 64
    lstm_layers: Annotated[int, Field(ge=1, le=8)] = 2
    summary: Literal["last", "mean"] = "last"

    @model_validator(mode="after")
    def _one_a_stage(self) -> Self:
        stages = len(self.filters)
        for name, found in (("kernels", len(self.kernels)), ("paddings", len(self.paddings))):
            if found != stages:
                raise ValueError(f"{name}: {found} values, but {stages} stages of filters take one each")
        return self


def smallest_frames(config: RecurrentConfig) -> int:
    """Return the fewest frames that leave one step after the last pooling."""
    frames = 1
    for kernel, padding in zip(reversed(config.kernels), reversed(config.paddings), strict=True):
        frames = max(1, frames * config.pool + kernel - 1 - 2 * padding)
    return frames


class Recurrent(Classifier):
    """Convolutions along time, LSTM layers and one linear layer.

    Args:
        config: layers.
        bins: bins of the features; any number of frames from `smallest_frames` on will do.
        genres: number of logits.
    """

    def __init__(self, config: RecurrentConfig, bins: int, genres: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = bins
        for filters, kernel, padding in zip(config.filters, config.kernels, config.paddings, strict=True):
            layers.append(nn.Conv1d(channels, filters, kernel, padding=padding))
            if config.batch_norm:
                layers.append(nn.BatchNorm1d(filters))
            layers.append(nn.ReLU(inplace=True))
            if config.pool > 1:
                layers.append(nn.MaxPool1d(config.pool))
            if config.dropout:
                layers.append(nn.Dropout(config.dropout))
            channels = filters
        self.stages = nn.Sequential(*layers)
        self.lstm = nn.LSTM(channels, config.lstm_width, config.lstm_layers, batch_first=True)
        self.head = nn.Linear(config.lstm_width, genres)
        self._summary = config.summary

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return the last step of the last LSTM layer, or its mean over the steps: (B, lstm_width)."""
        maps_BCS: torch.Tensor = self.stages(features_BFT)
        steps_BSD: torch.Tensor = self.lstm(maps_BCS.transpose(1, 2))[0]
        return steps_BSD[:, -1] if self._summary == "last" else steps_BSD.mean(dim=1)

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G)."""
        logits_BG: torch.Tensor = self.head(embedding_BD)
        return logits_BG
