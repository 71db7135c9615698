"""Accuracy of a model when a share of the pixels of its features is set to zero.

This is the protocol of Minhas, Chie and Lee, "Music Genre Classification using Neural Networks" (UCLA): a model trained
on clean features is tested on features with 25, 50 and 75 % of the pixels zeroed. The paper tests the training tracks;
mgc tests the tracks of the scored split.

Axes: N clips, X all axes of a clip, P pixels of a clip, R colours of a pixel.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from mgc.evaluation.intervals import Interval

SHARES: Final = (0.25, 0.5, 0.75)
"""Shares of the pixels to zero, as in the paper."""

SEED: Final = 0

ZERO: Final[Mapping[str, str]] = {
    "log_mel": "the floor, as in silence",
    "thumbnail": "the lowest level of the window",
    "mel_image": "black, a colour that viridis does not have; all three colours of a pixel go together",
    "mel_means": "0 dB, the level of the reference: as loud as it gets",
    "mfcc": "a coefficient of 0",
    "mel_mfcc": "0 dB re power 1, a loud bin, and a coefficient of 0",
    "lpcc": "a coefficient of 0",
    "kaldi_mel": "a mel power of 0.011",
    "compressed_mel": "silence",
    "handcrafted": "a feature of 0, whatever its unit",
    "mfcc_statistics": "a statistic of 0",
}
"""Meaning of a stored 0, by kind of front end."""


def zero_of(kind: str) -> str:
    """Return in words what a stored 0 means for a kind of front end."""
    return ZERO.get(kind, "a stored number of 0")


@dataclass(frozen=True)
class RobustnessPoint:
    """The accuracy with some of the pixels zeroed.

    Attributes:
        zeroed: share of the pixels set to zero, 0 to 1; 0 is the clean test.
        accuracy: share of correct answers, 0 to 1.
        accuracy_interval: 95 % interval by bootstrap over groups; None if there are fewer than two groups.
    """

    zeroed: float
    accuracy: float
    accuracy_interval: Interval | None


@dataclass(frozen=True)
class Robustness:
    """Accuracy at several levels of noise.

    Attributes:
        points: one point per level, the clean test first.
        zero: meaning of a zero to the front end, in words.
        seed: seed of the choice of pixels.
        chance: accuracy of answering at random, 0 to 1.
    """

    points: tuple[RobustnessPoint, ...]
    zero: str
    seed: int
    chance: float


def zero_pixels(clips_NX: np.ndarray, share: float, seed: int = SEED) -> np.ndarray:
    """Return a copy of clips with a share of each clip's pixels set to zero.

    The choice of pixels depends only on the seed and the clip's own contents, not on its neighbours or the order of
    clips. The pixels of a smaller share are among those of a larger one. A pixel is a stored number, or the three
    colours of an image at one place. A chosen pixel that was already zero still counts towards the share.

    Args:
        clips_NX: features as stored, before normalisation: (clips, numbers), (clips, bins, frames) or (clips, height,
            width, colours).
        share: share of the P pixels of each clip, 0 to 1; round(share · P) pixels are set.
        seed: seed of the choice of pixels.

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of pixels lies between 0 and 1, not {share}")
    noisy_NX = clips_NX.copy(order="C")
    colours = clips_NX.shape[3] if clips_NX.ndim == 4 else 1
    pixels = math.prod(clips_NX.shape[1:]) // colours
    pixels_NPR = noisy_NX.reshape(-1, pixels, colours)
    count = round(share * pixels)
    for pixels_PR in pixels_NPR:
        random = np.random.default_rng([seed, zlib.crc32(pixels_PR.data)])
        pixels_PR[random.permutation(pixels)[:count]] = 0
    return noisy_NX
