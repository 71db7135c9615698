"""What a network for Kaldi's mel bands sees of a thumbnail: its rows on another mel axis, its columns stretched.

Axes: B batch, F rows of the thumbnail, M mel bands of the network, T columns, X frames of the network.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn
from torch.nn.functional import interpolate

_THUMBNAIL_TOP_HZ: Final = 22_050.0
_THUMBNAIL_BINS: Final = 128
"""Of `mgc.features.thumbnail.ThumbnailConfig`: half of its sample rate, and its mel filters up to there."""

_KALDI_TOP_HZ: Final = 15_000.0
_KALDI_BINS: Final = 128
"""Of `mgc.features.kaldi_mel.KaldiMelConfig`."""

_SPREAD: Final = 0.6
_MIDDLE: Final = 0.15
"""Deviation and mean of what EfficientAT's networks see of music. A thumbnail's rows come with deviation 1, mean 0."""


class ThumbnailInput(nn.Module):
    """Turns normalised thumbnails into pictures like those of `mgc.features.kaldi_mel`. It has nothing to learn.

    A band of the network is the linear interpolation, in hertz, between the two rows of the thumbnail beside its
    centre. Bands above the highest row repeat it. Columns are stretched by linear interpolation, so time runs faster
    than in the recording.

    Args:
        bins: rows of the thumbnail, the lowest of its 128 mel filters.
        frames: frames in training, however many columns augmentation leaves.
        scored_frames: frames otherwise.
    """

    weights_MF: torch.Tensor  # noqa: N815  (axes in capitals)

    def __init__(self, bins: int, frames: int, scored_frames: int) -> None:
        super().__init__()
        self._frames, self._scored_frames = frames, scored_frames
        # It is no weight: bundles of the network without this layer keep the same tensors.
        self.register_buffer("weights_MF", torch.tensor(remap_rows(bins)), persistent=False)

    def forward(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, 128, X)."""
        bands_BMT = _SPREAD * (self.weights_MF @ features_BFT) + _MIDDLE
        return interpolate(bands_BMT, self._frames if self.training else self._scored_frames, mode="linear")


def remap_rows(bins: int) -> list[list[float]]:
    """Return the weight of each row of a thumbnail in each of Kaldi's bands, (M, F); the weights of a band sum to 1."""
    rows_hz = [_slaney_hz((row + 1) * _slaney(_THUMBNAIL_TOP_HZ) / (_THUMBNAIL_BINS + 1)) for row in range(bins)]
    weights = []
    for band in range(_KALDI_BINS):
        centre_hz = _kaldi_hz((band + 1) * _kaldi(_KALDI_TOP_HZ) / (_KALDI_BINS + 1))
        above = next((row for row, row_hz in enumerate(rows_hz) if row_hz >= centre_hz), bins)
        line = [0.0] * bins
        if 0 < above < bins:
            share = (centre_hz - rows_hz[above - 1]) / (rows_hz[above] - rows_hz[above - 1])
            line[above - 1], line[above] = 1 - share, share
        else:
            line[min(above, bins - 1)] = 1.0
        weights.append(line)
    return weights


def _kaldi(hz: float) -> float:
    return 1127 * math.log1p(hz / 700)


def _kaldi_hz(mel: float) -> float:
    return 700 * math.expm1(mel / 1127)


def _slaney(hz: float) -> float:
    """Return mels of M. Slaney, Auditory Toolbox, 1998: linear to 1 kHz, logarithmic above."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def _slaney_hz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)
