"""Scores of a model on the tracks of one split.

Axes: N tracks, G genres in the order of the taxonomy, k best answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from mgc.configuration import to_json
from mgc.errors import BundleError, FeaturesError

TOP_K: Final = (2, 3)
"""The k of top-k accuracy; a k that is not below the number of genres is left out, since it is always right."""

_Z_95: Final = 1.959963984540054


@dataclass(frozen=True)
class GenreScore:
    """How one genre fared.

    Attributes:
        genre: its name.
        precision: share of right answers among those that name the genre, 0 to 1; None if the model never named it.
        recall: share of the genre's tracks that were found, 0 to 1; None if the split has none.
        f1: harmonic mean of the two, 0 to 1 (0 where no track was found); None if the split has no track of the genre.
        support: tracks of the genre in the split.
        answered: tracks that the model gave the genre.
    """

    genre: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    answered: int


@dataclass(frozen=True)
class Scores:
    """Scores of one model on one split. All shares are 0 to 1.

    Attributes:
        tracks: N, the tracks scored.
        accuracy: share of tracks whose most probable genre is the true one.
        accuracy_low: lower end of the 95 % Wilson interval of the accuracy. It takes tracks as independent; tracks of
            one artist are not, so where artists have many tracks the true interval is wider.
        accuracy_high: upper end of it.
        macro_f1: mean F1 over the genres that the split has tracks of. Wrongly naming any other genre still counts, as
            a track missed; such a genre has no F1 of its own and is not averaged in as a zero.
        top_k_accuracy: k → share of tracks whose true genre is among the k most probable.
        chance: 1/G, the expected accuracy of answering at random.
        majority_genre: the most frequent genre of the split.
        majority_accuracy: accuracy of always answering `majority_genre`.
        per_genre: one row a genre, in the order of `genres`.
        confusion: tracks, rows by true genre, columns by answered genre.
        genres: names, in the order of the taxonomy.
    """

    tracks: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    top_k_accuracy: Mapping[int, float]
    chance: float
    majority_genre: str
    majority_accuracy: float
    per_genre: tuple[GenreScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    genres: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; the k of `top_k_accuracy` become strings."""
        values: dict[str, Any] = to_json(self)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scores:
        """Inverse of `to_json`; fields that it does not know are ignored.

        Raises:
            BundleError: a field is missing or of the wrong type.
        """
        try:
            return TypeAdapter(cls).validate_python(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"scores: {field}: {first['msg']}; evaluate the model again to rewrite them.") from None


def score(
    true_genres: npt.NDArray[np.integer], probabilities_NG: npt.NDArray[np.floating], genres: Sequence[str]
) -> Scores:
    """Score a model's probabilities against the true genres.

    The answer to a track is its most probable genre; of equally probable ones the first in the order of the taxonomy.

    Args:
        true_genres: (N,) integers, 0 to G-1.
        probabilities_NG: (N, G) finite numbers; only their order within a row counts, so logits do as well.
        genres: G unique names.

    Raises:
        FeaturesError: there is no track to score.
        BundleError: the probabilities or the true genres do not fit the taxonomy, or are not finite.
        ValueError: the two arrays do not have the same N.
    """
    # scikit-learn takes a second to import; who only reads or shows scores need not wait for it.
    from sklearn.metrics import precision_recall_fscore_support

    truth_N = np.asarray(true_genres)
    _check(truth_N, probabilities_NG, genres)
    G = len(genres)
    N = len(truth_N)
    # Not sklearn's top_k_accuracy_score: it breaks ties towards the last genre, argmax towards the first, so that among
    # equal probabilities its top 2 can miss what the top 1 has.
    ranked_NG = np.argsort(-probabilities_NG, axis=1, kind="stable")
    answers_N = ranked_NG[:, 0]
    hits_NG = ranked_NG == truth_N[:, None]

    labels = np.arange(G)
    # Not sklearn's confusion_matrix: it warns where one genre is all there is.
    confusion_GG = np.bincount(truth_N * G + answers_N, minlength=G * G).reshape(G, G)
    precision_G, recall_G, f1_G, support_G = precision_recall_fscore_support(
        truth_N, answers_N, labels=labels, average=None, zero_division=0.0
    )
    answered_G = confusion_GG.sum(axis=0)
    present_G = support_G > 0
    right = int(np.trace(confusion_GG))
    low, high = wilson_interval(right, N)
    majority = int(np.argmax(support_G))
    return Scores(
        tracks=N,
        accuracy=right / N,
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=float(f1_G[present_G].mean()),
        top_k_accuracy={k: float(hits_NG[:, :k].any(axis=1).mean()) for k in TOP_K if k < G},
        chance=1 / G,
        majority_genre=genres[majority],
        majority_accuracy=int(support_G[majority]) / N,
        per_genre=tuple(
            GenreScore(
                genre=genres[g],
                precision=float(precision_G[g]) if answered_G[g] else None,
                recall=float(recall_G[g]) if present_G[g] else None,
                f1=float(f1_G[g]) if present_G[g] else None,
                support=int(support_G[g]),
                answered=int(answered_G[g]),
            )
            for g in range(G)
        ),
        confusion=tuple(tuple(int(count) for count in row_G) for row_G in confusion_GG),
        genres=tuple(genres),
    )


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a share: Wilson 1927, JASA 22 (158), 209-212.

    Unlike share ± 1.96 standard errors it stays within 0 and 1 and does not shrink to a point at either end.

    Args:
        right: successes, 0 to `total`.
        total: trials, at least 1.
    """
    share = right / total
    z2 = _Z_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # Rounding could carry the ends past the share itself where all or none are right.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _check(truth_N: npt.NDArray[Any], probabilities_NG: npt.NDArray[Any], genres: Sequence[str]) -> None:
    N, G = len(truth_N), len(genres)
    if N == 0:
        raise FeaturesError("scores: the split has no track with a known genre; name another split.")
    if probabilities_NG.ndim != 2 or probabilities_NG.shape[1] != G:
        raise BundleError(
            f"scores: probabilities of shape {probabilities_NG.shape} do not fit the taxonomy's {G} genres; "
            "use the taxonomy that the model was trained with."
        )
    if truth_N.shape != (len(probabilities_NG),):
        raise ValueError(f"true_genres has shape {truth_N.shape}, probabilities_NG {probabilities_NG.shape}")
    if truth_N.min() < 0 or truth_N.max() >= G:
        raise BundleError(f"scores: a true genre lies outside the taxonomy (indices 0 to {G - 1}); index it anew.")
    broken = int((~np.isfinite(probabilities_NG)).any(axis=1).sum())
    if broken:
        raise BundleError(
            f"scores: the model gives no finite probabilities for {broken} of {N} tracks: its training diverged; "
            "train again with a lower learning rate."
        )
