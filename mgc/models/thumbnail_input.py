"""What a published network sees of a thumbnail: its rows on the network's mel axis, its columns stretched.

Axes: B batch, F rows of the thumbnail, M mel bands of the network, T columns, X frames of the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn.functional import interpolate

_THUMBNAIL_TOP_HZ: Final = 22_050.0
_THUMBNAIL_BINS: Final = 128
"""Of `mgc.features.thumbnail.ThumbnailConfig`: half of its sample rate, and its mel filters up to there."""


@dataclass(frozen=True)
class MelAxis:
    """The mel bands that a network takes, and the numbers in them.

    Attributes:
        centres_hz: centre of each band, rising.
        middle: mean of what the network sees of music.
        deviation: its deviation. A thumbnail's rows come with deviation 1, mean 0.
    """

    centres_hz: tuple[float, ...]
    middle: float
    deviation: float


class ThumbnailInput(nn.Module):
    """Turns normalised thumbnails into pictures like those that a network was published for. It has nothing to learn.

    A band of the network is the linear interpolation, in hertz, between the two rows of the thumbnail beside its
    centre. Bands above the highest row repeat it. Columns are stretched by linear interpolation, so time runs faster
    than in the recording.

    Args:
        axis: the network's bands.
        bins: rows of the thumbnail, the lowest of its 128 mel filters.
        frames: frames in training, however many columns augmentation leaves.
        scored_frames: frames otherwise.
    """

    weights_MF: torch.Tensor  # noqa: N815  (axes in capitals)

    def __init__(self, axis: MelAxis, bins: int, frames: int, scored_frames: int) -> None:
        super().__init__()
        self._axis = axis
        self._frames, self._scored_frames = frames, scored_frames
        # It is no weight: bundles of the network without this layer keep the same tensors.
        self.register_buffer("weights_MF", torch.tensor(remap_rows(axis, bins)), persistent=False)

    def forward(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, M, X)."""
        bands_BMT = self._axis.deviation * (self.weights_MF @ features_BFT) + self._axis.middle
        return interpolate(bands_BMT, self._frames if self.training else self._scored_frames, mode="linear")


def remap_rows(axis: MelAxis, bins: int) -> list[list[float]]:
    """Return the weight of each row of a thumbnail in each of the bands, (M, F); the weights of a band sum to 1."""
    rows_hz = slaney_centres_hz(_THUMBNAIL_TOP_HZ, _THUMBNAIL_BINS)[:bins]
    weights = []
    for centre_hz in axis.centres_hz:
        above = next((row for row, row_hz in enumerate(rows_hz) if row_hz >= centre_hz), bins)
        line = [0.0] * bins
        if 0 < above < bins:
            share = (centre_hz - rows_hz[above - 1]) / (rows_hz[above] - rows_hz[above - 1])
            line[above - 1], line[above] = 1 - share, share
        else:
            line[min(above, bins - 1)] = 1.0
        weights.append(line)
    return weights


def kaldi_centres_hz(top_hz: float, bands: int) -> tuple[float, ...]:
    """Return the centres of Kaldi's mel filters from 0 to `top_hz`."""
    top = 1127 * math.log1p(top_hz / 700)
    return tuple(700 * math.expm1((band + 1) * top / (bands + 1) / 1127) for band in range(bands))


def slaney_centres_hz(top_hz: float, bands: int) -> tuple[float, ...]:
    """Return the centres of the mel filters of M. Slaney, Auditory Toolbox, 1998, from 0 to `top_hz`.

    They are linear to 1 kHz and logarithmic above, as those of librosa.
    """
    top = top_hz * 3 / 200 if top_hz < 1000 else 15 + 27 * math.log(top_hz / 1000) / math.log(6.4)
    mels = ((band + 1) * top / (bands + 1) for band in range(bands))
    return tuple(mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27) for mel in mels)
