"""The CNN of O'Beirne and Zamora, "Music Genre Classification Using Mel Spectrogram Representations" (Stanford).

Four convolutions of 2 × 2 with strides 2, 1, 2, 1, without padding, each followed by batch normalisation, ReLU and a
max-pool of 2 × 2 with stride 1; one dense layer; Xavier initialisation. The paper gives no filter counts, no padding
and no order of pooling and normalisation; the recipe states what was chosen.

Axes: B batch, C channels, F mel bins, T frames, D embedding, G genres.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier

_STRIDES: Final = (2, 1, 2, 1)

SMALLEST_SIDE: Final = 22
"""Fewest bins, and fewest frames, of which one value is left after the last pooling."""

Filters = Annotated[int, Field(ge=1, le=1024)]


@dataclass(frozen=True, config=STRICT)
class OBeirneCnnConfig:
    """Configuration of `OBeirneCnn`.

    Attributes:
        filters: of the four convolutions. The paper is silent; doubling from 16 is our choice.
    """

    kind: Literal["obeirne_cnn"] = "obeirne_cnn"
    filters: tuple[Filters, Filters, Filters, Filters] = (16, 32, 64, 128)


class OBeirneCnn(Classifier):
    """Recipe A1's network; its dense layer fixes the input's shape.

    Args:
        config: the filters.
        input_shape: (bins, frames) of one clip's features, `SMALLEST_SIDE` at least.
        genres: number of logits.
    """

    def __init__(self, config: OBeirneCnnConfig, input_shape: tuple[int, int], genres: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for filters, stride in zip(config.filters, _STRIDES, strict=True):
            layers += [
                nn.Conv2d(width, filters, 2, stride),
                nn.BatchNorm2d(filters),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2, 1),
            ]
            width = filters
        self.convolutions = nn.Sequential(*layers)
        bins, frames = (_side_left(side) for side in input_shape)
        self.head = nn.Linear(width * bins * frames, genres)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """The flattened maps before the dense layer, (B, D)."""
        maps_BCFT: torch.Tensor = self.convolutions(features_BFT.unsqueeze(1))
        return maps_BCFT.flatten(1)

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Logits (B, G)."""
        logits_BG: torch.Tensor = self.head(embedding_BD)
        return logits_BG


def _side_left(side: int) -> int:
    """Bins, or frames, after the last pooling."""
    for stride in _STRIDES:
        side = (side - 2) // stride  # A convolution gives one more than this; the pooling takes that one.
    return side
