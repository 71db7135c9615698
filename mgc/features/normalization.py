"""Shift and scale stored features for a network, per bin or per colour of an image.

Axes: N clips, B batch, F bins (rows, numbers of a vector, colours), T frames, V stored values 0 to 255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from typing import Final, Literal

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT, JsonObject
from mgc.errors import FeaturesError

_CLIPS_AT_ONCE: Final = 64
"""Clips that are counted, or summed in float64, together."""

_LARGEST_BYTE: Final = 255.0


@dataclass(frozen=True, config=STRICT)
class ScalingConfig:
    """How features are brought into a range that suits a network.

    Attributes:
        method: `standardized`, each bin to mean 0 and deviation 1 over a sample of the training clips; `min_max`, each
            bin so that its smallest value over all training clips is 0 and its largest 1 (clips not trained on may lie
            outside); `bytes`, uint8 divided by 255, nothing is measured.
        unit_length: whether each clip is then divided by its Euclidean norm over all its numbers; all zeros stay zeros.
    """

    method: Literal["standardized", "min_max", "bytes"] = "standardized"
    unit_length: bool = False


@plain_dataclass(frozen=True)
class Normalization:
    """Offset and scale of each bin: the offset is subtracted, then the bin is divided by the scale.

    A bin is a number of a vector, a row of features over time, or a colour of an image.

    Attributes:
        offset_F: finite float per bin: a mean, or a minimum, or 0.
        scale_F: finite float per bin, greater than zero: a deviation, or a range, or 255.
        unit_length: whether each clip is then divided by its Euclidean norm.

    Raises:
        ValueError: a field is not as described, or the two differ in length.
    """

    offset_F: tuple[float, ...]  # noqa: N815  (axes in capitals)
    scale_F: tuple[float, ...]  # noqa: N815
    unit_length: bool = False

    def __post_init__(self) -> None:
        if len(self.offset_F) != len(self.scale_F) or not self.offset_F:
            raise ValueError("a normalisation has one offset and one scale for each bin")
        if not all(math.isfinite(value) for value in self.offset_F + self.scale_F) or min(self.scale_F) <= 0:
            raise ValueError("a normalisation's offsets are finite, its scales finite and greater than zero")

    @classmethod
    def measure(cls, features_NFT: np.ndarray, scaling: ScalingConfig | None = None) -> Normalization:
        """Measure the normalisation on training clips.

        For uint8 the result is exact in any order of clips, rounded to four decimals. Floats are summed in float64 and
        rounded to eight digits.

        Args:
            features_NFT: at least one clip: (clips, numbers), (clips, bins, frames) or (clips, height, width, colours).
                `min_max` needs all of them, or their `extremes`.
            scaling: method; standardized by default.

        Raises:
            FeaturesError: there is no clip, a feature is not a finite number, or `bytes` meets other than uint8.
        """
        scaling = scaling or ScalingConfig()
        if not features_NFT.size:
            raise FeaturesError("training data: there is no clip to measure a normalisation from; add tracks.")
        axis = _bin_axis(features_NFT.ndim)
        whole = features_NFT.dtype == np.uint8
        if scaling.method == "bytes":
            if not whole:
                raise FeaturesError(
                    f"training data: scaling.method bytes is for uint8, these are {features_NFT.dtype}; choose "
                    "another method."
                )
            bins = features_NFT.shape[axis]
            return cls((0.0,) * bins, (_LARGEST_BYTE,) * bins, scaling.unit_length)
        if scaling.method == "min_max":
            offset_F, scale_F = _ranges(features_NFT, axis)
        else:
            offset_F, scale_F = _moments_of_bytes(features_NFT, axis) if whole else _moments(features_NFT, axis)
        if not (np.isfinite(offset_F).all() and np.isfinite(scale_F).all()):
            raise FeaturesError("training data: a feature is not a finite number; prepare the features again.")
        if whole:
            # A scale of at least one stored step: a constant bin must not lead to a division by zero.
            return cls(
                tuple(offset_F.round(4).tolist()),
                tuple(np.maximum(scale_F, 1.0).round(4).tolist()),
                scaling.unit_length,
            )
        # Neither must a bin that is constant but for rounding.
        scale_F[scale_F <= 1e-6 * np.abs(offset_F)] = 1.0
        offset, scale = (tuple(float(f"{value:.8g}") for value in values_F) for values_F in (offset_F, scale_F))
        return cls(offset, scale, scaling.unit_length)

    def apply(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return normalised float32 of the same shape, on the same device.

        Args:
            features_BFT: stored features: (clips, numbers), (clips, bins, frames) or (clips, height, width, colours).
        """
        trailing = (1,) * (features_BFT.ndim - 1 - _bin_axis(features_BFT.ndim))
        offset_F1 = torch.tensor(self.offset_F, dtype=torch.float32, device=features_BFT.device)
        scale_F1 = torch.tensor(self.scale_F, dtype=torch.float32, device=features_BFT.device)
        shifted_BFT = features_BFT.to(torch.float32) - offset_F1.reshape(-1, *trailing)
        scaled_BFT: torch.Tensor = shifted_BFT / scale_F1.reshape(-1, *trailing)
        if not self.unit_length:
            return scaled_BFT
        norm_B = torch.linalg.vector_norm(scaled_BFT.flatten(1), dim=1)
        unit_BFT: torch.Tensor = scaled_BFT / norm_B.where(norm_B > 0, 1.0).reshape(-1, *(1,) * (features_BFT.ndim - 1))
        return unit_BFT

    def to_json(self) -> JsonObject:
        """Return JSON-ready values."""
        return {"offset": list(self.offset_F), "scale": list(self.scale_F), "unit_length": self.unit_length}

    @classmethod
    def from_json(cls, value: object) -> Normalization:
        """Inverse of `to_json`.

        Raises:
            ValueError: this is no normalisation.
        """
        if (
            not isinstance(value, dict)
            or value.keys() != {"offset", "scale", "unit_length"}
            or not (_are_numbers(value["offset"]) and _are_numbers(value["scale"]))
            or not isinstance(value["unit_length"], bool)
        ):
            raise ValueError('a normalisation is {"offset": numbers, "scale": numbers, "unit_length": true or false}')
        return cls(tuple(map(float, value["offset"])), tuple(map(float, value["scale"])), value["unit_length"])


def extremes(features_NFT: np.ndarray) -> np.ndarray:
    """Return two clips with the smallest and the largest values of all clips: (2, *shape of a clip).

    Args:
        features_NFT: at least one clip.
    """
    return np.stack([features_NFT.min(axis=0), features_NFT.max(axis=0)])


def _ranges(features_NFT: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return smallest value and range of each bin in float64; not finite where a feature is not."""
    others = _others(features_NFT, axis)
    smallest_F = features_NFT.min(axis=others).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return smallest_F, features_NFT.max(axis=others).astype(np.float64) - smallest_F


def _moments_of_bytes(features_NFT: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each bin of uint8.

    Counts the values of a few clips at a time, which takes little memory. A float copy of all clips would not.
    """
    counts_FV = np.zeros((features_NFT.shape[axis], 256), np.int64)
    for start in range(0, len(features_NFT), _CLIPS_AT_ONCE):
        part_FNT = np.moveaxis(features_NFT[start : start + _CLIPS_AT_ONCE], axis, 0)
        counts_FV += np.stack([np.bincount(bin_NT.ravel(), minlength=256) for bin_NT in part_FNT])
    shares_FV = counts_FV / counts_FV.sum(axis=1, keepdims=True)
    values_V = np.arange(256)
    mean_F = shares_FV @ values_V
    return mean_F, np.sqrt((shares_FV * (values_V - mean_F[:, None]) ** 2).sum(axis=1))


def _moments(features_NFT: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each bin of floats; not finite where a feature is not.

    Two passes in float64 over a few clips at a time, because a float64 copy of all clips would be large.
    """
    others = _others(features_NFT, axis)
    bins = features_NFT.shape[axis]
    parts = range(0, len(features_NFT), _CLIPS_AT_ONCE)
    count = features_NFT.size // bins
    sum_F, squares_F = np.zeros(bins), np.zeros(bins)
    for start in parts:
        sum_F += features_NFT[start : start + _CLIPS_AT_ONCE].sum(axis=others, dtype=np.float64)
    mean_F = sum_F / count
    if not np.isfinite(mean_F).all():
        return mean_F, squares_F
    mean_F1 = np.expand_dims(mean_F, [place - 1 for place in others if place])
    for start in parts:
        part_NFT = features_NFT[start : start + _CLIPS_AT_ONCE].astype(np.float64) - mean_F1
        squares_F += np.square(part_NFT).sum(axis=others)
    return mean_F, np.sqrt(squares_F / count)


def _others(features_NFT: np.ndarray, axis: int) -> tuple[int, ...]:
    """Return the axes over which a bin is measured."""
    return tuple(place for place in range(features_NFT.ndim) if place != axis)


def _bin_axis(dimensions: int) -> int:
    """Return the axis of a batch that holds the bins: the last of an image, else the first of a clip."""
    return 3 if dimensions == 4 else 1


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(number) in (int, float) for number in value)
