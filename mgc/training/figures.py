"""What an epoch gives: loss and confusion, as sums that add up over workers.

Axes: G genres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mgc.configuration import JsonObject


@dataclass
class EpochFigures:
    """Sums of an epoch; those of several workers add up.

    Attributes:
        clips: how many were seen.
        loss_sum: of all clips, in nats.
        confusion_GG: int64 counts of clips, true genres in rows, answers in columns.
    """

    clips: int
    loss_sum: float
    confusion_GG: torch.Tensor  # noqa: N815  (axes in capitals)

    def __add__(self, other: EpochFigures) -> EpochFigures:
        """Of both."""
        confusion_GG = self.confusion_GG + other.confusion_GG
        return EpochFigures(self.clips + other.clips, self.loss_sum + other.loss_sum, confusion_GG)

    def none(self) -> EpochFigures:
        """Of no clips, of the same genres."""
        return EpochFigures(0, 0.0, torch.zeros_like(self.confusion_GG))

    def to_json(self) -> JsonObject:
        """JSON-ready values."""
        return {"clips": self.clips, "loss_sum": self.loss_sum, "confusion": self.confusion_GG.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EpochFigures:
        """Inverse of `to_json`."""
        return cls(value["clips"], value["loss_sum"], torch.tensor(value["confusion"], dtype=torch.int64))

    @property
    def loss(self) -> float:
        """Mean loss of a clip in nats; 0 where there is none."""
        return self.loss_sum / max(self.clips, 1)

    @property
    def accuracy(self) -> float:
        """Share of clips answered rightly; 0 where there is none."""
        return float(self.confusion_GG.diagonal().sum()) / max(self.clips, 1)

    @property
    def macro_f1(self) -> float:
        """F1 averaged over the genres that occur; 0 where none does."""
        right_G = self.confusion_GG.diagonal().double()
        support_G, answered_G = self.confusion_GG.sum(1).double(), self.confusion_GG.sum(0).double()
        f1_G = 2 * right_G / (support_G + answered_G).clamp(min=1)
        return float(f1_G[support_G > 0].mean()) if bool((support_G > 0).any()) else 0.0
