"""A probe: a small head on the embedding of a trained network that does not change.

Axes: B batch, F mel bins, T frames, D embedding, G genres, S sounds.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier
from mgc.models.ensemble import AnyMemberConfig, EnsembleConfig
from mgc.models.mobilenet import MobileNetConfig

BodyConfig = Annotated[AnyMemberConfig | EnsembleConfig, Field(discriminator="kind")]


@dataclass(frozen=True, config=STRICT)
class ProbeConfig:
    """Configuration of `Probe`.

    Attributes:
        body: network whose embedding the head takes.
        embedding: numbers of that embedding.
        hidden: units of a layer between embedding and output; 0 for a linear head.
        sounds: outputs of the body's own head, which stays beside the new one; 0 if that head is removed.
    """

    kind: Literal["probe"] = "probe"
    body: BodyConfig = MobileNetConfig()
    embedding: Annotated[int, Field(ge=1, le=1_000_000)] = 384
    hidden: Annotated[int, Field(ge=0, le=65_536)] = 0
    sounds: Annotated[int, Field(ge=0, le=65_536)] = 0


class Probe(Classifier):
    """A network under a small head that was trained on its embeddings.

    The network's own head is removed, or stays beside the small one to tell music from other sounds. It is not trained.

    Args:
        config: size of the head, and whether the network's own stays.
        body: the network, which is taken over.
        genres: number of logits.
    """

    def __init__(self, config: ProbeConfig, body: Classifier, genres: int) -> None:
        super().__init__()
        if config.sounds:
            body.head.requires_grad_(False)
        else:
            body.head = nn.Identity()
        self.body = body
        self._names_sounds = config.sounds > 0
        self.head = build_head(config.embedding, config.hidden, genres)

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return the embedding of the body, (B, D)."""
        return self.body.embed(features_BFT)

    def ears(self) -> dict[str, torch.Tensor]:
        """Return the weights of the body, which are those of the network that it was."""
        return self.body.ears()

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G)."""
        logits_BG: torch.Tensor = self.head(embedding_BD)
        return logits_BG

    def name_sounds(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, S) that the body's own head gives, if it was kept."""
        return self.body.classify(embedding_BD) if self._names_sounds else super().name_sounds(embedding_BD)


def build_head(embedding: int, hidden: int, genres: int) -> nn.Module:
    """Return an untrained head: one linear layer, or two with a ReLU between them."""
    if not hidden:
        return nn.Linear(embedding, genres)
    return nn.Sequential(nn.Linear(embedding, hidden), nn.ReLU(), nn.Linear(hidden, genres))
