"""Dense networks: a clip's features as one vector, through fully connected layers.

Axes: B batch, F mel bins, T frames, D embedding, G genres.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier, Init, Share, Width, initialise


@dataclass(frozen=True, config=STRICT)
class DenseConfig:
    """Configuration of `Dense`.

    A hidden layer is: dense, batch normalisation where asked for, ReLU, dropout.

    Attributes:
        hidden: units of each hidden layer; none for a linear model.
        batch_norm: whether hidden layers have batch normalisation.
        dropout: share zeroed after each hidden layer.
        init: of the weights.
        mean_over_time: whether it takes of features (F, T) the F means over time.
    """

    kind: Literal["dense"] = "dense"
    hidden: Annotated[tuple[Width, ...], Field(max_length=16)] = (128, 64)
    batch_norm: bool = False
    dropout: Share = 0.0
    init: Init = "xavier"
    mean_over_time: bool = False


class Dense(Classifier):
    """A plain dense network for features of any shape, flattened, or for their means over time.

    Args:
        config: the layers.
        input_shape: of one clip's features.
        genres: number of logits.
    """

    def __init__(self, config: DenseConfig, input_shape: tuple[int, ...], genres: int) -> None:
        super().__init__()
        self._means = config.mean_over_time
        sizes = [math.prod(input_shape[:-1] if self._means else input_shape), *config.hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers.append(nn.Linear(before, after))
            if config.batch_norm:
                layers.append(nn.BatchNorm1d(after))
            layers.append(nn.ReLU(inplace=True))
            if config.dropout:
                layers.append(nn.Dropout(config.dropout))
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], genres)
        initialise(self, config.init)

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Activations of the last hidden layer, (B, D)."""
        taken = features_BFT.mean(-1) if self._means else features_BFT.flatten(1)
        embedding_BD: torch.Tensor = self.hidden(taken)
        return embedding_BD

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Logits (B, G)."""
        logits_BG: torch.Tensor = self.head(embedding_BD)
        return logits_BG
