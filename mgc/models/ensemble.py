"""An ensemble: trained networks side by side, with their logits averaged.

Each head ends with a linear layer, so the mean of the logits is one linear layer on all that goes into those. The
ensemble is therefore an ordinary network, and costs as much as its members together.

Axes: B batch, F mel bins, T frames, D embedding, G genres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, get_args

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.errors import ConfigError
from mgc.models.blocks import Classifier
from mgc.models.convolutional import ConvolutionalConfig
from mgc.models.dense import DenseConfig
from mgc.models.house import HouseCnnConfig
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.musicnn import MusicnnConfig
from mgc.models.recurrent import RecurrentConfig
from mgc.models.statistics import StatisticsConfig

AnyMemberConfig = (
    HouseCnnConfig
    | ConvolutionalConfig
    | DenseConfig
    | RecurrentConfig
    | StatisticsConfig
    | MobileNetConfig
    | MusicnnConfig
)
"""A network that sees features and is none of others."""

MemberConfig = Annotated[AnyMemberConfig, Field(discriminator="kind")]

MEMBER_KINDS: Final = tuple(member.kind for member in get_args(AnyMemberConfig))


@dataclass(frozen=True, config=STRICT)
class EnsembleConfig:
    """Configuration of `Ensemble`.

    Attributes:
        members: configurations of the networks.
    """

    kind: Literal["ensemble"] = "ensemble"
    members: Annotated[tuple[MemberConfig, ...], Field(min_length=2, max_length=100)] = (
        HouseCnnConfig(),
        HouseCnnConfig(),
    )


class Ensemble(Classifier):
    """Networks side by side under one linear head.

    Args:
        members: networks with the same number of genres, whose heads end with a linear layer. The ensemble takes them
            over and removes that layer. If they are trained, the joint head gives the mean of their logits.

    Raises:
        ConfigError: a member's head does not end with a linear layer.
    """

    head: nn.Linear

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        lasts = [_last_layer(member.head) for member in members]
        linear = [layer for _, layer in lasts if isinstance(layer, nn.Linear)]
        if len(linear) != len(lasts):
            raise ConfigError("an ensemble takes networks whose head ends with a linear layer.")
        share = 1 / len(linear)
        self._widths = [head.in_features for head in linear]
        self.head = nn.Linear(sum(head.in_features for head in linear), linear[0].out_features)
        # A network on the device `meta` has no numbers; see `load_model`.
        if not self.head.weight.is_meta:
            with torch.no_grad():
                self.head.weight.copy_(torch.cat([head.weight for head in linear], dim=1) * share)
                self.head.bias.copy_(torch.stack([head.bias for head in linear]).mean(dim=0))
        self._lasts = [name for name, _ in lasts]
        for member in members:
            member.head = member.head[:-1] if isinstance(member.head, nn.Sequential) else nn.Identity()
        self.members = nn.ModuleList(members)

    def network(self, number: int) -> dict[str, torch.Tensor]:
        """Return the weights of one member as a network by itself, with its part of the joint head.

        The members' own biases are not known any more; each gets their mean.

        Args:
            number: place of the member, counted from 0.
        """
        head = self.head
        weight_GD = head.weight.split(self._widths, dim=1)[number] * len(self._widths)
        own, last = self.members[number].state_dict(), self._lasts[number]
        return {**own, f"{last}.weight": weight_GD.detach(), f"{last}.bias": head.bias.detach()}

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return what goes into the members' last layers, side by side, (B, sum of their sizes)."""
        return torch.cat([member(features_BFT) for member in self.members], dim=1)

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G): the mean of the members' logits."""
        logits_BG: torch.Tensor = self.head(embedding_BD)
        return logits_BG


def _last_layer(head: nn.Module) -> tuple[str, nn.Module]:
    """Return the name of a head's last layer within the network, and the layer."""
    if isinstance(head, nn.Sequential):
        return f"head.{len(head) - 1}", head[-1]
    return "head", head
