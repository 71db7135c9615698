"""A map of tracks: t-SNE of the network's penultimate activations.

Axes: N tracks (or clips), D numbers of an embedding, S numbers of a sketch.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mgc.datasets.splits import place

SHOWN: Final = 1000
"""Most tracks on a map; more would cover each other."""

FEWEST: Final = 8
"""Fewest tracks for a meaningful map."""

SEED: Final = 0

SKETCH: Final = 512
"""Numbers in the sketch of an embedding. A network that flattens its maps has a hundred thousand numbers per clip."""

_PERPLEXITY: Final = 30.0
_PRINCIPAL: Final = 50
_DECIMALS: Final = 2


@dataclass(frozen=True)
class MapPoint:
    """A track on the map; the unit of `x` and `y` has no meaning."""

    track_id: str
    x: float
    y: float
    genre: str
    answer: str


@dataclass(frozen=True)
class EmbeddingMap:
    """A map on which tracks that the network finds similar are close. Distances between far points mean nothing.

    Attributes:
        points: one point per track, in order of track id.
        tracks: number of tracks in the split, shown or not.
        perplexity: perplexity of t-SNE, about the number of neighbours that count for each track.
        seed: seed of the choice of tracks and of t-SNE.
    """

    points: tuple[MapPoint, ...]
    tracks: int
    perplexity: float
    seed: int


def choose(genre_of: dict[str, str], limit: int = SHOWN, seed: int = SEED) -> list[str]:
    """Choose the tracks to show: each genre by its share, and at least once if the limit allows.

    Args:
        genre_of: track id → true genre.
        limit: most tracks to choose.
        seed: seed of the choice.

    Returns:
        Track ids, sorted.
    """
    total = Counter(genre_of.values())
    seen: Counter[str] = Counter()
    place_of: dict[str, float] = {}
    # Put each genre's tracks, in random order, at even distances from 0. The lowest then hold each genre by its share.
    for track, genre in sorted(genre_of.items(), key=lambda item: (place(item[0], seed), item[0])):
        place_of[track] = seen[genre] / total[genre]
        seen[genre] += 1
    return sorted(sorted(place_of, key=lambda track: (place_of[track], -total[genre_of[track]], track))[:limit])


def sketch(embedding_ND: npt.NDArray[np.float32], seed: int = SEED) -> npt.NDArray[np.float32]:
    """Shorten each embedding to at most `SKETCH` numbers, while roughly keeping distances.

    This is a count sketch (Charikar, Chen and Farach-Colton 2002): each number gets a random place and sign, and is
    added up there. Weinberger et al., ICML 2009, show that inner products are kept on average. An embedding that is
    short enough stays as it is.

    Args:
        embedding_ND: float32 of shape (N, D).
        seed: seed of places and signs; sketches of different seeds cannot be compared.
    """
    N, D = embedding_ND.shape
    if D <= SKETCH:
        return embedding_ND
    order_D, sign_D = _places(D, seed)
    padded = np.zeros((N, -(-D // SKETCH) * SKETCH), np.float32)
    padded[:, :D] = (embedding_ND * sign_D)[:, order_D]
    added_NS: npt.NDArray[np.float32] = padded.reshape(N, -1, SKETCH).sum(axis=1)
    return added_NS


@functools.lru_cache(maxsize=2)
def _places(D: int, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    random = np.random.default_rng(seed)
    return random.permutation(D), random.choice(np.array([-1, 1], np.float32), D)


def embedding_map(
    track_ids: Sequence[str],
    embedding_ND: npt.NDArray[np.floating],
    genres: Sequence[str],
    answers: Sequence[str],
    tracks: int,
    seed: int = SEED,
) -> EmbeddingMap | None:
    """Lay out tracks by t-SNE (van der Maaten and Hinton, JMLR 9, 2008), with scikit-learn's defaults.

    The input is the embeddings' first 50 principal components, as in the paper. The first two of them give the starting
    points.

    Args:
        track_ids: N track ids, in order.
        embedding_ND: embedding of each track, finite.
        genres: true genre of each track.
        answers: answer of the model for each track.
        tracks: number of tracks in the split, shown or not.
        seed: seed of t-SNE.

    Returns:
        The map, or None if fewer than `FEWEST` tracks differ.
    """
    N = len(track_ids)
    centred_ND = np.asarray(embedding_ND, np.float64) - embedding_ND.mean(axis=0)
    if len(np.unique(centred_ND, axis=0)) < FEWEST:
        return None
    # scikit-learn takes a second to import.
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    principal_ND = PCA(min(_PRINCIPAL, *centred_ND.shape), random_state=seed).fit_transform(centred_ND)
    perplexity = min(_PERPLEXITY, (N - 1) / 3)
    layout = TSNE(2, perplexity=perplexity, init="pca" if principal_ND.shape[1] > 1 else "random", random_state=seed)
    xy_N2 = layout.fit_transform(principal_ND).astype(np.float64).round(_DECIMALS)
    rows = zip(track_ids, xy_N2.tolist(), genres, answers, strict=True)
    points = tuple(MapPoint(track, x, y, genre, answer) for track, (x, y), genre, answer in rows)
    return EmbeddingMap(points, tracks, perplexity, seed)
