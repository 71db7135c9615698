"""What is left of the accuracy when a share of the pixels of the features is set to zero.

The protocol of Minhas, Chie and Lee, "Music Genre Classification using Neural Networks" (UCLA): a model trained on
clean features is tested on features with 25, 50 and 75 % of the pixels zeroed. Here the tested tracks are those of the
split scored, not those that the model was trained on, as in the paper.

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
"""Of the pixels, as in the paper."""

SEED: Final = 0

ZERO: Final[Mapping[str, str]] = {
    "log_mel": "the floor, as in silence",
    "thumbnail": "the lowest level of the window",
    "mel_image": "black, a colour that viridis does not have; all three colours of a pixel go together",
    "mel_means": "0 dB, the level of the reference: as loud as it gets",
    "mfcc": "a coefficient of 0",
    "mel_mfcc": "0 dB re power 1, a loud bin, and a coefficient of 0",
    "lpcc": "a coefficient of 0",
    "handcrafted": "a feature of 0, whatever its unit",
    "mfcc_statistics": "a statistic of 0",
}
"""What a stored 0 means, by kind of front end."""


def zero_of(kind: str) -> str:
    """What a stored 0 means to a kind of front end, in words."""
    return ZERO.get(kind, "a stored number of 0")


@dataclass(frozen=True)
class RobustnessPoint:
    """The accuracy with some of the pixels zeroed.

    Attributes:
        zeroed: share of the pixels set to zero, 0 to 1; 0 is the clean test.
        accuracy: share of right answers, 0 to 1.
        accuracy_interval: 95 %, by bootstrap over groups; None where there are fewer than two.
    """

    zeroed: float
    accuracy: float
    accuracy_interval: Interval | None


@dataclass(frozen=True)
class Robustness:
    """Accuracy at several levels of noise.

    Attributes:
        points: the clean test first.
        zero: what a zero means to the front end.
        seed: of the pixels.
        chance: accuracy of answering at random, 0 to 1.
    """

    points: tuple[RobustnessPoint, ...]
    zero: str
    seed: int
    chance: float


def zero_pixels(clips_NX: np.ndarray, share: float, seed: int = SEED) -> np.ndarray:
    """A copy of clips in which a share of each clip's pixels is zero.

    Which pixels depends on the seed and on the clip's own contents, so neither on its neighbours nor on the order of
    clips. Those of a smaller share are among those of a larger one. A pixel is a stored number, or the three colours of
    an image at one place; one that was zero before counts as one of the share.

    Args:
        clips_NX: features as they are stored, before normalisation: (clips, numbers), (clips, bins, frames) or
            (clips, height, width, colours).
        share: of the P pixels of each clip, 0 to 1; round(share · P) are set.
        seed: another seed, other pixels.

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
