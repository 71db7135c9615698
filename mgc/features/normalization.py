"""From stored uint8 features to what a network takes: zero mean and unit deviation per mel bin.

Axes: N clips, B batch, F mel bins, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Normalization:
    """Mean and deviation per bin, in units of the stored values (0 to 255).

    Attributes:
        mean_F: float per bin.
        deviation_F: float per bin, greater than zero.
    """

    mean_F: tuple[float, ...]
    deviation_F: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean_F) != len(self.deviation_F) or not self.mean_F:
            raise ValueError("a normalization has one mean and one deviation for each bin.")
        if min(self.deviation_F) <= 0:
            raise ValueError("a normalization's deviations are greater than zero.")

    @classmethod
    def measure(cls, features_NFT: np.ndarray) -> Normalization:
        """Mean and deviation of training clips.

        Args:
            features_NFT: uint8 (clips, bins, frames).
        """
        mean_F = features_NFT.mean(axis=(0, 2), dtype=np.float64)
        # One stored step at least: a bin that never changes must not become a division by zero.
        deviation_F = np.maximum(features_NFT.std(axis=(0, 2), dtype=np.float64), 1.0)
        return cls(tuple(mean_F.round(4).tolist()), tuple(deviation_F.round(4).tolist()))

    def apply(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Normalised float32 of the same shape, on the same device.

        Args:
            features_BFT: uint8 (clips, bins, frames).
        """
        mean_F1 = torch.tensor(self.mean_F, dtype=torch.float32, device=features_BFT.device).unsqueeze(1)
        deviation_F1 = torch.tensor(self.deviation_F, dtype=torch.float32, device=features_BFT.device).unsqueeze(1)
        return (features_BFT.to(torch.float32) - mean_F1) / deviation_F1

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"mean": list(self.mean_F), "deviation": list(self.deviation_F)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Normalization:
        """Inverse of `to_json`."""
        return cls(tuple(value["mean"]), tuple(value["deviation"]))
