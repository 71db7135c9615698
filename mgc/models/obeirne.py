"""The CNN of O'Beirne and Zamora, "Music Genre Classification Using Mel Spectrogram Representations" (Stanford).

Four convolutions of 2 × 2 with strides 2, 1, 2, 1, each followed by a max-pool of 2 × 2 with stride 1, batch
normalisation and ReLU; one dense layer; Xavier initialisation. The paper gives no filter counts and no order of pooling and
normalisation; the recipe states what was chosen.

Axes: B batch, C channels, F mel bins, T frames, D embedding, G genres.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier

_STRIDES = (2, 1, 2, 1)

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
    """Recipe A1's network; its dense layer fixes the input's shape."""

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
        with torch.no_grad():
            flat = self.convolutions.eval()(torch.zeros(1, 1, *input_shape)).numel()
        self.convolutions.train()
        self.dense = nn.Linear(flat, genres)
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
        logits_BG: torch.Tensor = self.dense(embedding_BD)
        return logits_BG
