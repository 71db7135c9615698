"""From stored uint8 features to what a network takes: zero mean and unit deviation per mel bin.

Axes: N clips, B batch, F mel bins, T frames, V stored values 0 to 255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mgc.errors import FeaturesError


@dataclass(frozen=True)
class Normalization:
    """Mean and deviation per bin, in units of the stored values (0 to 255).

    Attributes:
        mean_F: finite float per bin.
        deviation_F: finite float per bin, greater than zero.

    Raises:
        ValueError: a field is not of this kind, or the two differ in length.
    """

    mean_F: tuple[float, ...]  # noqa: N815  (axes in capitals)
    deviation_F: tuple[float, ...]  # noqa: N815

    def __post_init__(self) -> None:
        if len(self.mean_F) != len(self.deviation_F) or not self.mean_F:
            raise ValueError("a normalization has one mean and one deviation for each bin")
        if not all(math.isfinite(value) for value in self.mean_F + self.deviation_F) or min(self.deviation_F) <= 0:
            raise ValueError("a normalization's means are finite, its deviations finite and greater than zero")

    @classmethod
    def measure(cls, features_NFT: np.ndarray) -> Normalization:
        """Mean and deviation of training clips, exact whatever their order, rounded to four decimals.

        Args:
            features_NFT: uint8 (clips, bins, frames), one clip at least.

        Raises:
            FeaturesError: there is no clip.
        """
        if not features_NFT.size:
            raise FeaturesError("training data: there is no clip to measure a normalization from.")
        # Counting values takes the memory of one bin's numbers at a time; the mean of a float copy that of them all.
        counts_FV = np.stack([np.bincount(bin_NT.ravel(), minlength=256) for bin_NT in features_NFT.swapaxes(0, 1)])
        shares_FV = counts_FV / counts_FV.sum(axis=1, keepdims=True)
        values_V = np.arange(256)
        mean_F = shares_FV @ values_V
        deviation_F = np.sqrt((shares_FV * (values_V - mean_F[:, None]) ** 2).sum(axis=1))
        # One stored step at least: a bin that never changes must not become a division by zero.
        return cls(tuple(mean_F.round(4).tolist()), tuple(np.maximum(deviation_F, 1.0).round(4).tolist()))

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
    def from_json(cls, value: Any) -> Normalization:
        """Inverse of `to_json`.

        Raises:
            ValueError: this is no normalization.
        """
        if not isinstance(value, dict) or not all(_are_numbers(value.get(name)) for name in ("mean", "deviation")):
            raise ValueError('a normalization is {"mean": numbers, "deviation": numbers}')
        return cls(tuple(map(float, value["mean"])), tuple(map(float, value["deviation"])))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) in (int, float) for number in value)
