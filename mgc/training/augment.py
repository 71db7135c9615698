"""Augmentation of normalised features, on the device, for a whole batch at once.

All but mixup needs features of bins over frames. `limit_band` comes first, on the features as they are stored.

Axes: B batch, F mel bins, T frames, G genres.
"""

from __future__ import annotations

from typing import Annotated, Final

import torch
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT

Share = Annotated[float, Field(ge=0.0, le=1.0)]

SMALLEST_ALPHA: Final = 0.01
"""Smallest alpha of mixup. Below it both gamma variates of a Beta draw underflow, and clips are mixed half and half."""


@dataclass(frozen=True, config=STRICT)
class AugmentConfig:
    """How a clip is varied each time it is used; by default not at all.

    Attributes:
        roll_time: whether to rotate the clip in time by a random number of frames; what leaves at one end enters at
            the other.
        crop_time: smallest share of the frames that training may cut a batch down to. The length is random, and so is
            the place in each clip; 1 keeps all frames. Fewer frames are also less work. Scored clips are never cut.
        shift_bins: most mel bins to shift up or down (edges repeat): a change of key or speed.
        gain: standard deviation of a random factor (about 1) on the normalised decibels, and of a random offset.
        mask_bins: largest share of the bins in each of two stripes that are set to zero, the mean value (SpecAugment,
            Park et al. 2019).
        mask_frames: largest share of the frames, likewise.
        limit_band: smallest share of the bins that a clip may be left with; 1 leaves all. Half of the clips lose their
            highest bins, as in a file of a lower sample rate or a lossy one of few bits; see `limit_band`. Needs
            pictures whose 0 is the floor.
        mixup: alpha of the Beta distribution that mixes two clips and their genres (Zhang et al. 2018), 0.01 to 10; 0
            turns it off.
    """

    roll_time: bool = False
    crop_time: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    shift_bins: Annotated[int, Field(ge=0, le=64)] = 0
    gain: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    mask_bins: Share = 0.0
    mask_frames: Share = 0.0
    limit_band: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    mixup: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0

    @field_validator("mixup")
    @classmethod
    def _can_be_drawn(cls, alpha: float) -> float:
        if 0 < alpha < SMALLEST_ALPHA:
            raise ValueError(f"mixup is 0, or at least {SMALLEST_ALPHA}")
        return alpha

    @property
    def varies_pictures(self) -> bool:
        """Whether any variation needs features of bins over frames."""
        return self._varies_normalised or self.limit_band < 1

    @property
    def _varies_normalised(self) -> bool:
        return bool(
            self.roll_time or self.crop_time < 1 or self.shift_bins or self.gain or self.mask_bins or self.mask_frames
        )


def _index(batch: int, size: int, device: torch.device) -> torch.Tensor:
    """Return int64 (B, size): 0, 1, 2, … in each row."""
    return torch.arange(size, device=device).expand(batch, size)


def _stripes(batch: int, size: int, share: float, device: torch.device) -> torch.Tensor:
    """Return boolean (B, size): one stripe per clip, of random place and width up to `share` of the size."""
    width_B1 = torch.rand(batch, 1, device=device) * share * size
    start_B1 = torch.rand(batch, 1, device=device) * (size - width_B1)
    # A place counts as covered if its middle is, so the first is hit as often as the last.
    middle_BS = _index(batch, size, device) + 0.5
    return (middle_BS >= start_B1) & (middle_BS < start_B1 + width_B1)


def augment(features_BFT: torch.Tensor, config: AugmentConfig) -> torch.Tensor:
    """Return varied features, each clip in its own way; draws from torch's global generator.

    The shape stays the same, except that `crop_time` may leave fewer frames.

    Args:
        features_BFT: normalised float32; not modified. Other axes are allowed only if nothing is varied.
        config: what to vary. Mixup is not applied here, since it changes the targets too; nor is `limit_band`, which
            takes features as they are stored.
    """
    if not config._varies_normalised:
        return features_BFT
    batch, bins, frames = features_BFT.shape
    device = features_BFT.device
    if config.roll_time:
        offset_B1 = torch.randint(frames, (batch, 1), device=device)
        index_BT = (_index(batch, frames, device) + offset_B1) % frames
        features_BFT = features_BFT.gather(2, index_BT.unsqueeze(1).expand(batch, bins, frames))
    if config.crop_time < 1:
        # All clips get the same length, so the batch stays one tensor.
        kept = max(1, round(frames * (config.crop_time + (1 - config.crop_time) * float(torch.rand(())))))
        start_B1 = torch.randint(frames - kept + 1, (batch, 1), device=device)
        index_BT = _index(batch, kept, device) + start_B1
        features_BFT = features_BFT.gather(2, index_BT.unsqueeze(1).expand(batch, bins, kept))
        frames = kept
    if config.shift_bins:
        offset_B1 = torch.randint(-config.shift_bins, config.shift_bins + 1, (batch, 1), device=device)
        index_BF = (_index(batch, bins, device) + offset_B1).clamp(0, bins - 1)
        features_BFT = features_BFT.gather(1, index_BF.unsqueeze(2).expand(batch, bins, frames))
    if config.gain:
        factor_B11 = 1 + config.gain * torch.randn(batch, 1, 1, device=device)
        offset_B11 = config.gain * torch.randn(batch, 1, 1, device=device)
        features_BFT = features_BFT * factor_B11 + offset_B11
    if config.mask_bins or config.mask_frames:
        keep_BFT = torch.ones_like(features_BFT)
        for _ in range(2):
            if config.mask_bins:
                keep_BFT *= ~_stripes(batch, bins, config.mask_bins, device).unsqueeze(2)
            if config.mask_frames:
                keep_BFT *= ~_stripes(batch, frames, config.mask_frames, device).unsqueeze(1)
        features_BFT = features_BFT * keep_BFT
    return features_BFT


def limit_band(stored_BFT: torch.Tensor, smallest: float) -> torch.Tensor:
    """Return pictures of which about half have lost their highest bins; draws from torch's global generator.

    A clip loses its highest bins with probability one half. A share of its bins, uniform between `smallest` and 1, is
    then left, rounded to whole bins and at least one. Those above become 0, as a front end stores that nothing sounds.

    Args:
        stored_BFT: features as they are stored, of a front end whose 0 is the floor; not modified.
        smallest: smallest share of the bins that is left; 1 returns the features.
    """
    if smallest == 1:
        return stored_BFT
    batch, bins, _ = stored_BFT.shape
    device = stored_BFT.device
    share_B1 = smallest + (1 - smallest) * torch.rand(batch, 1, device=device)
    share_B1 = torch.where(torch.rand(batch, 1, device=device) < 0.5, share_B1, 1.0)
    left_B1 = (share_B1 * bins).round().clamp_min(1)
    return stored_BFT * (_index(batch, bins, device) < left_B1).unsqueeze(2)


def mixup(features_BFT: torch.Tensor, targets_BG: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each clip with another of the batch, and their targets in the same proportion (Zhang et al. 2018).

    The larger share stays with the clip itself, so its own genre keeps at least half of the target.

    Args:
        features_BFT: float32, with any axes after the first.
        targets_BG: float32 shares of each genre, rows summing to one.
        alpha: at least `SMALLEST_ALPHA`; small values mix little.
    """
    batch = features_BFT.shape[0]
    share_B = torch.distributions.Beta(alpha, alpha).sample((batch,)).to(features_BFT.device)
    share_B = torch.maximum(share_B, 1 - share_B)
    other_B = torch.randperm(batch, device=features_BFT.device)
    share_B1 = share_B[:, None]
    share_B11 = share_B.reshape(-1, *(1,) * (features_BFT.ndim - 1))
    mixed_BFT = share_B11 * features_BFT + (1 - share_B11) * features_BFT[other_B]
    return mixed_BFT, share_B1 * targets_BG + (1 - share_B1) * targets_BG[other_B]
