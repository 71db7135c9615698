"""From stored features to what a network takes: zero mean and unit deviation per bin, or per colour of an image.

Axes: N clips, B batch, F bins (rows, numbers of a vector, colours), T frames, V stored values 0 to 255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from mgc.errors import FeaturesError

_CLIPS_AT_ONCE: Final = 64
"""Clips counted, or summed in float64, together."""


@dataclass(frozen=True)
class Normalization:
    """Mean and deviation per bin, in units of the stored values (0 to 255 where they are uint8).

    A bin is a number of a vector, a row of features over time, or a colour of an image.

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
        """Mean and deviation of training clips.

        Of uint8 exact whatever the order of clips, rounded to four decimals; of floats summed in float64, rounded to
        eight digits.

        Args:
            features_NFT: one clip at least: (clips, numbers), (clips, bins, frames) or (clips, height, width, colours).

        Raises:
            FeaturesError: there is no clip, or a feature is not a finite number.
        """
        if not features_NFT.size:
            raise FeaturesError("training data: there is no clip to measure a normalization from.")
        axis = _bin_axis(features_NFT.ndim)
        if features_NFT.dtype != np.uint8:
            return cls._measure_floats(features_NFT, axis)
        # Counting values of some clips at a time takes little memory; the mean of a float copy that of them all.
        counts_FV = np.zeros((features_NFT.shape[axis], 256), np.int64)
        for start in range(0, len(features_NFT), _CLIPS_AT_ONCE):
            part_FNT = np.moveaxis(features_NFT[start : start + _CLIPS_AT_ONCE], axis, 0)
            counts_FV += np.stack([np.bincount(bin_NT.ravel(), minlength=256) for bin_NT in part_FNT])
        shares_FV = counts_FV / counts_FV.sum(axis=1, keepdims=True)
        values_V = np.arange(256)
        mean_F = shares_FV @ values_V
        deviation_F = np.sqrt((shares_FV * (values_V - mean_F[:, None]) ** 2).sum(axis=1))
        # One stored step at least: a bin that never changes must not become a division by zero.
        return cls(tuple(mean_F.round(4).tolist()), tuple(np.maximum(deviation_F, 1.0).round(4).tolist()))

    @classmethod
    def _measure_floats(cls, features_NFT: np.ndarray, axis: int) -> Normalization:
        """Two passes in float64, some clips at a time: a float64 copy of all would be large."""
        bins = features_NFT.shape[axis]
        others = tuple(place for place in range(features_NFT.ndim) if place != axis)
        parts = range(0, len(features_NFT), _CLIPS_AT_ONCE)
        count = features_NFT.size // bins
        sum_F, squares_F = np.zeros(bins), np.zeros(bins)
        for start in parts:
            sum_F += features_NFT[start : start + _CLIPS_AT_ONCE].sum(axis=others, dtype=np.float64)
        if not np.isfinite(sum_F).all():
            raise FeaturesError("training data: a feature is not a finite number; prepare the features again.")
        mean_F = sum_F / count
        mean_F1 = np.expand_dims(mean_F, [place - 1 for place in others if place])
        for start in parts:
            part_NFT = features_NFT[start : start + _CLIPS_AT_ONCE].astype(np.float64) - mean_F1
            squares_F += np.square(part_NFT).sum(axis=others)
        deviation_F = np.sqrt(squares_F / count)
        # A bin that never changes, but for rounding, must not become a division by zero.
        deviation_F[deviation_F <= 1e-6 * np.abs(mean_F)] = 1.0
        return cls(*(tuple(float(f"{value:.8g}") for value in values_F) for values_F in (mean_F, deviation_F)))

    def apply(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Normalised float32 of the same shape, on the same device.

        Args:
            features_BFT: as stored: (clips, numbers), (clips, bins, frames) or (clips, height, width, colours).
        """
        trailing = (1,) * (features_BFT.ndim - 1 - _bin_axis(features_BFT.ndim))
        mean_F1 = torch.tensor(self.mean_F, dtype=torch.float32, device=features_BFT.device)
        deviation_F1 = torch.tensor(self.deviation_F, dtype=torch.float32, device=features_BFT.device)
        centred_BFT = features_BFT.to(torch.float32) - mean_F1.reshape(-1, *trailing)
        return centred_BFT / deviation_F1.reshape(-1, *trailing)

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


def _bin_axis(dimensions: int) -> int:
    """Which axis of a batch holds the bins: an image's last, else the first of a clip."""
    return 3 if dimensions == 4 else 1


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) in (int, float) for number in value)
