"""From the logits of a track's clips to one answer.

Axes: C clips of one track, G genres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def track_probabilities(logits_CG: np.ndarray) -> np.ndarray:
    """Softmax of the mean of the clips' logits: float64 (G,), summing to one.

    Averaging logits, not probabilities: a product of experts (Hinton 2002), in which a clip that is certain counts for
    more than one that is not.

    Args:
        logits_CG: float (clips, genres), at least one clip, all finite.
    """
    mean_G = logits_CG.mean(axis=0, dtype=np.float64)
    raised_G = np.exp(mean_G - mean_G.max())
    probabilities_G: np.ndarray = raised_G / raised_G.sum()
    return probabilities_G


@dataclass(frozen=True)
class Decision:
    """A track's answer.

    Attributes:
        genre_top: the likeliest genre.
        confidence: its probability as the model states it, not calibrated, in (0, 1].
        top_k: the likeliest genres with their probabilities, in falling order.
    """

    genre_top: str
    confidence: float
    top_k: tuple[tuple[str, float], ...]


def decide(logits_CG: np.ndarray, genres: Sequence[str], top_k: int) -> Decision:
    """The answer of one track.

    Args:
        logits_CG: float (clips, genres), at least one clip, all finite.
        genres: names by logit index.
        top_k: how many genres to list, at most; 1 or more. Of equals the first by index comes first.

    Raises:
        ValueError: there is no clip, or `top_k` is below 1.
    """
    if not len(logits_CG) or top_k < 1:
        raise ValueError(f"a decision needs one clip and one place in its list at least, got {len(logits_CG)}, {top_k}")
    probabilities_G = track_probabilities(logits_CG)
    order = np.argsort(-probabilities_G, kind="stable")[:top_k]
    ranked = tuple((genres[index], float(probabilities_G[index])) for index in order)
    return Decision(ranked[0][0], ranked[0][1], ranked)
