"""Results of an epoch: loss and confusion, as sums that add up over workers.

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
    """Sums over an epoch; those of several workers add up.

    Attributes:
        clips: number of clips seen.
        loss_sum: sum of the losses of all clips, in nats.
        confusion_GG: int64 counts of clips, true genres in rows, answers in columns.
    """

    clips: int
    loss_sum: float
    confusion_GG: torch.Tensor  # noqa: N815  (axes in capitals)

    def __add__(self, other: EpochFigures) -> EpochFigures:
        """Return the sums over both."""
        confusion_GG = self.confusion_GG + other.confusion_GG
        return EpochFigures(self.clips + other.clips, self.loss_sum + other.loss_sum, confusion_GG)

    def none(self) -> EpochFigures:
        """Return figures of no clips, for the same genres."""
        return EpochFigures(0, 0.0, torch.zeros_like(self.confusion_GG))

    def to_json(self) -> JsonObject:
        """Return JSON-ready values."""
        return {"clips": self.clips, "loss_sum": self.loss_sum, "confusion": self.confusion_GG.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EpochFigures:
        """Read figures from the values of `to_json`."""
        return cls(value["clips"], value["loss_sum"], torch.tensor(value["confusion"], dtype=torch.int64))

    @property
    def loss(self) -> float:
        """Mean loss per clip in nats; 0 without clips."""
        return self.loss_sum / max(self.clips, 1)

    @property
    def accuracy(self) -> float:
        """Accuracy: the share of clips answered correctly; 0 without clips."""
        return float(self.confusion_GG.diagonal().sum()) / max(self.clips, 1)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the genres that occur; 0 if none does."""
        right_G = self.confusion_GG.diagonal().double()
        support_G, answered_G = self.confusion_GG.sum(1).double(), self.confusion_GG.sum(0).double()
        f1_G = 2 * right_G / (support_G + answered_G).clamp(min=1)
        return float(f1_G[support_G > 0].mean()) if bool((support_G > 0).any()) else 0.0
