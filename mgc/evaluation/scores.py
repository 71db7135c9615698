"""Scores of a model on the tracks of one split.

Axes: N units scored (tracks, or clips), G genres in the order of the taxonomy, k best answers, E events counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from mgc.configuration import JsonObject, to_json
from mgc.datasets.protocols import Unit
from mgc.errors import BundleError, FeaturesError
from mgc.evaluation.intervals import GroupKind, Interval, Resampled, ResamplingGroups, interval, resample
from mgc.units import format_count

TOP_K: Final = (2, 3)
"""Values of k for top-k accuracy. A k not below the number of genres is left out, since it is always right."""


@dataclass(frozen=True)
class GenreScore:
    """Scores of one genre. Intervals are 95 % intervals, and None if fewer than two groups contribute.

    Attributes:
        genre: name of the genre.
        precision: share of correct answers among those that name the genre, 0 to 1; None if the model never named it.
        recall: share of the genre's tracks that were found, 0 to 1; None if the split has none.
        f1: harmonic mean of the two, 0 to 1 (0 where no track was found); None if the split has no track of the genre.
        support: number of tracks of the genre in the split.
        answered: number of tracks to which the model gave the genre.
        precision_interval: interval of the precision.
        recall_interval: interval of the recall.
        f1_interval: interval of F1; None also if all bootstrap replicates are equal.
        groups: number of groups (artists) with tracks of the genre; None in older scores, which did not count them.
    """

    genre: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    answered: int
    precision_interval: Interval | None = None
    recall_interval: Interval | None = None
    f1_interval: Interval | None = None
    groups: int | None = None


@dataclass(frozen=True)
class Scores:
    """Scores of one model on one split. All shares are 0 to 1.

    Intervals are 95 % intervals by bootstrap over groups: see `mgc.evaluation.intervals`. An interval is None if there
    are fewer than two groups; that of macro-F1 also if all replicates are equal.

    Attributes:
        tracks: number N of scored tracks. Here and below, tracks are clips if `unit` says so.
        accuracy: share of tracks whose most probable genre is the true one.
        macro_f1: mean F1 over the genres that have tracks in the split. Any other genre has no F1 and is not averaged
            in as a zero, but answering it wrongly still counts as a missed track.
        top_k_accuracy: k → share of tracks whose true genre is among the k most probable.
        chance: 1/G, the expected accuracy of answering at random.
        majority_genre: most frequent genre of the split.
        majority_accuracy: accuracy of always answering `majority_genre`.
        per_genre: one row per genre, in the order of `genres`.
        confusion: counts of tracks, rows by true genre, columns by answered genre.
        genres: names, in the order of the taxonomy.
        accuracy_interval: interval of the accuracy.
        macro_f1_interval: interval of macro-F1. A replicate without tracks of a genre averages over the others.
        top_k_intervals: k → interval of the top-k accuracy.
        unit: unit of the score.
        groups: number of groups that the bootstrap drew from.
        effective_groups: least number of equal-sized groups that would be worth as much; see
            `ResamplingGroups.effective_count`.
        group_kind: kind of the groups. Scores from before intervals used groups have None for these three. Their only
            interval, of the accuracy, is Wilson's, which treats tracks as independent.
    """

    tracks: int
    accuracy: float
    macro_f1: float
    top_k_accuracy: Mapping[int, float]
    chance: float
    majority_genre: str
    majority_accuracy: float
    per_genre: tuple[GenreScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    genres: tuple[str, ...]
    accuracy_interval: Interval | None = None
    macro_f1_interval: Interval | None = None
    top_k_intervals: Mapping[int, Interval | None] = field(default_factory=dict)
    unit: Unit = "tracks"
    groups: int | None = None
    effective_groups: float | None = None
    group_kind: GroupKind | None = None

    def to_json(self) -> JsonObject:
        """Return JSON-ready values; the k of `top_k_accuracy` and `top_k_intervals` become strings."""
        return to_json(self)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Scores:
        """Read scores from the values of `to_json` or of older bundles; unknown fields are ignored.

        Raises:
            BundleError: a field is missing or of the wrong type.
        """
        fields = dict(values)
        if "accuracy_interval" not in fields and {"accuracy_low", "accuracy_high"} <= fields.keys():
            fields["accuracy_interval"] = {"low": fields["accuracy_low"], "high": fields["accuracy_high"]}
        try:
            return TypeAdapter(cls).validate_python(fields)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"scores: {name}: {first['msg']}; evaluate the model again to rewrite them.") from None


def score(
    true_genres: npt.NDArray[np.integer],
    probabilities_NG: npt.NDArray[np.floating],
    genres: Sequence[str],
    groups: ResamplingGroups | None = None,
    unit: Unit = "tracks",
) -> Scores:
    """Score a model's probabilities against the true genres.

    The answer for a track is its most probable genre, or the first of several in the order of the taxonomy.

    Args:
        true_genres: (N,) integers, 0 to G-1.
        probabilities_NG: (N, G) finite numbers; only their order within a row counts, so logits work too.
        genres: G unique names.
        groups: groups of similar tracks, for the intervals; by default every track is its own group.
        unit: unit of a row.

    Raises:
        FeaturesError: there is no track to score.
        BundleError: the probabilities or the true genres do not fit the taxonomy, or are not finite.
        ValueError: the arrays, or the groups, do not have the same N.
    """
    # scikit-learn takes a second to import; code that only reads or shows scores need not wait for it.
    from sklearn.metrics import precision_recall_fscore_support

    truth_N = np.asarray(true_genres)
    _check(truth_N, probabilities_NG, genres)
    G = len(genres)
    N = len(truth_N)
    groups = groups or ResamplingGroups.singles(N, unit)
    if len(groups.index_N) != N:
        raise ValueError(f"{len(groups.index_N)} units are grouped, {N} are scored")
    # Avoid sklearn's top_k_accuracy_score: it breaks ties towards the last genre, argmax towards the first. Among equal
    # probabilities its top 2 could miss the top 1.
    ranked_NG = np.argsort(-probabilities_NG, axis=1, kind="stable")
    answers_N = ranked_NG[:, 0]
    place_N = np.argmax(ranked_NG == truth_N[:, None], axis=1)

    labels = np.arange(G)
    # Avoid sklearn's confusion_matrix: it warns if there is only one genre.
    confusion_GG = np.bincount(truth_N * G + answers_N, minlength=G * G).reshape(G, G)
    precision_G, recall_G, f1_G, support_G = precision_recall_fscore_support(
        truth_N, answers_N, labels=labels, average=None, zero_division=0.0
    )
    answered_G = confusion_GG.sum(axis=0)
    present_G = support_G > 0
    majority = int(np.argmax(support_G))
    drawn = _resample(truth_N, answers_N, place_N, G, groups)
    f1_RG = np.stack([drawn.f1(g, G + g, 2 * G + g) for g in labels[present_G]], axis=1)
    f1_intervals = dict(zip(labels[present_G], map(interval, f1_RG.T), strict=True))
    whole = 3 * G
    return Scores(
        tracks=N,
        accuracy=float((place_N == 0).mean()),
        macro_f1=float(f1_G[present_G].mean()),
        top_k_accuracy={k: float((place_N < k).mean()) for k in TOP_K if k < G},
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
                precision_interval=drawn.share(g, 2 * G + g),
                recall_interval=drawn.share(g, G + g),
                f1_interval=f1_intervals[g] if drawn.groups_C[G + g] > 1 else None,
                groups=int(drawn.groups_C[G + g]),
            )
            for g in range(G)
        ),
        confusion=tuple(tuple(int(count) for count in row_G) for row_G in confusion_GG),
        genres=tuple(genres),
        accuracy_interval=drawn.share(whole + 1, whole),
        macro_f1_interval=interval(np.nanmean(f1_RG, axis=1)),
        top_k_intervals={k: drawn.share(whole + k, whole) for k in TOP_K if k < G},
        unit=unit,
        groups=groups.count,
        effective_groups=groups.effective_count,
        group_kind=groups.kind,
    )


def _resample(
    truth_N: npt.NDArray[Any], answers_N: npt.NDArray[Any], place_N: npt.NDArray[Any], G: int, groups: ResamplingGroups
) -> Resampled:
    """Resample the counts for all intervals at once.

    The order of counts is: correct answers of each genre, tracks of each genre, answers of each genre, all tracks,
    tracks whose true genre is the most probable, among the two most probable, the three most probable, …
    """
    units = np.arange(len(truth_N))
    right_N = place_N == 0
    ranks = range(1, max(TOP_K) + 1)
    found = [place_N < k for k in ranks]
    unit_E = [units[right_N], units, units, units, *(units[found_N] for found_N in found)]
    whole = 3 * G
    count_E = [
        truth_N[right_N],
        G + truth_N,
        2 * G + answers_N,
        np.full(len(units), whole),
        *(np.full(int(found_N.sum()), whole + k) for k, found_N in zip(ranks, found, strict=True)),
    ]
    return resample(groups, np.concatenate(unit_E), np.concatenate(count_E), whole + 1 + max(TOP_K))


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
            f"scores: the model gives no finite probabilities for {broken:,} of {format_count(N, 'track')}: its "
            "training diverged; train again with a lower learning rate."
        )
