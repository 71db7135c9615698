"""The answer for a track, from the logits of its clips.

Axes: C clips of one track, G genres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def track_probabilities(logits_CG: np.ndarray) -> np.ndarray:
    """Return the softmax of the mean of the clips' logits: float64 (G,), summing to one.

    Averaging logits rather than probabilities makes a product of experts (Hinton 2002): a clip that is certain counts
    for more than one that is not.

    Args:
        logits_CG: float (clips, genres), at least one clip, all finite.
    """
    mean_G = logits_CG.mean(axis=0, dtype=np.float64)
    raised_G = np.exp(mean_G - mean_G.max())
    probabilities_G: np.ndarray = raised_G / raised_G.sum()
    return probabilities_G


Ranked = tuple[tuple[str, float], ...]
"""Genres with their probabilities, in descending order."""


@dataclass(frozen=True)
class Decision:
    """The answer for a track.

    Attributes:
        genre_top: most probable genre.
        confidence: the model's probability of that genre, not calibrated, in (0, 1].
        top_k: most probable genres with their probabilities, in descending order.
    """

    genre_top: str
    confidence: float
    top_k: Ranked


def decide(logits_CG: np.ndarray, genres: Sequence[str], top_k: int) -> Decision:
    """Decide the answer for one track.

    Args:
        logits_CG: float (clips, genres), at least one clip, all finite.
        genres: names of the genres by logit index.
        top_k: largest number of genres to list, at least 1. Of equal ones, the lower index comes first.

    Raises:
        ValueError: there is no clip, or `top_k` is below 1.
    """
    if not len(logits_CG) or top_k < 1:
        raise ValueError(f"a decision needs at least one clip and one place in its list, got {len(logits_CG)}, {top_k}")
    probabilities_G = track_probabilities(logits_CG)
    order = np.argsort(-probabilities_G, kind="stable")[:top_k]
    ranked = tuple((genres[index], float(probabilities_G[index])) for index in order)
    return Decision(ranked[0][0], ranked[0][1], ranked)
