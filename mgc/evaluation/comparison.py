"""Comparison of two models on the same tracks: which is better, and how certain that is.

The scores of two models on one split rise and fall together, since both find the same tracks hard. Whether one is
better shows in the difference, not in whether two intervals overlap. So this is a paired bootstrap: groups (artists)
are drawn once for both models, and the difference is measured.

Axes: M the two models, N units (tracks), G genres, R replicates, E events counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mgc.configuration import JsonObject, to_json
from mgc.datasets.protocols import Unit
from mgc.errors import FeaturesError
from mgc.evaluation.intervals import GroupKind, Interval, ResamplingGroups, interval, resample


@dataclass(frozen=True)
class Difference:
    """One figure of both models, 0 to 1.

    Attributes:
        first: figure of the first model.
        second: figure of the second model.
        difference: second minus first.
        interval: 95 % interval of the difference; None if there are fewer than two groups or all replicates are equal.
    """

    first: float
    second: float
    difference: float
    interval: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Two models on the same tracks.

    Attributes:
        accuracy: share of tracks answered correctly.
        macro_f1: mean F1 over the genres that have tracks.
        both_right: number of tracks that both models answer correctly.
        only_first: number of tracks that only the first model answers correctly.
        only_second: number of tracks that only the second model answers correctly.
        neither: number of tracks that neither model answers correctly.
        mcnemar_p: p of McNemar's test; see `mcnemar`.
        tracks: number of all tracks, or of clips if `unit` says so.
        unit: unit of an answer.
        groups: number of groups that the bootstrap drew from.
        group_kind: kind of the groups.
    """

    accuracy: Difference
    macro_f1: Difference
    both_right: int
    only_first: int
    only_second: int
    neither: int
    mcnemar_p: float
    tracks: int
    unit: Unit
    groups: int
    group_kind: GroupKind

    def to_json(self) -> JsonObject:
        """Return JSON-ready values."""
        return to_json(self)


def compare(
    truth_N: npt.NDArray[np.int64],
    first_N: npt.NDArray[np.int64],
    second_N: npt.NDArray[np.int64],
    groups: ResamplingGroups,
    unit: Unit = "tracks",
) -> Comparison:
    """Compare the answers of two models.

    Args:
        truth_N: true genres, numbered from 0.
        first_N: answers of the first model, numbered alike.
        second_N: answers of the second model.
        groups: groups of similar units.
        unit: unit of a row.

    Raises:
        FeaturesError: there is nothing to compare.
        ValueError: the arrays, or the groups, do not have the same N.
    """
    N = len(truth_N)
    if not N:
        raise FeaturesError("comparison: there is no track that both models answered; name another split.")
    if not len(first_N) == len(second_N) == len(groups.index_N) == N:
        raise ValueError(
            f"{N} true genres, {len(first_N)} and {len(second_N)} answers, {len(groups.index_N)} units grouped"
        )
    G = int(max(truth_N.max(), first_N.max(), second_N.max())) + 1
    units = np.arange(N)
    # Counts: tracks of each genre, all tracks; then for each model correct ones and answers by genre, all correct ones.
    unit_E, count_E = [units, units], [truth_N, np.full(N, G)]
    places = []
    start = G + 1
    for answer_N in (first_N, second_N):
        right_N = answer_N == truth_N
        hits = units[right_N]
        unit_E += [hits, units, hits]
        count_E += [start + truth_N[right_N], start + G + answer_N, np.full(len(hits), start + 2 * G)]
        places.append(start)
        start += 2 * G + 1
    drawn = resample(groups, np.concatenate(unit_E), np.concatenate(count_E), start)
    # The last row holds the counts of the real tracks.
    counts_RC = np.vstack([drawn.counts_RC, drawn.counts_C])
    accuracy_MR = [counts_RC[:, place + 2 * G] / counts_RC[:, G] for place in places]
    f1_MR = [_macro_f1(counts_RC, place, G) for place in places]
    several = groups.count > 1
    first_right_N, second_right_N = first_N == truth_N, second_N == truth_N
    alone = int((first_right_N & ~second_right_N).sum()), int((second_right_N & ~first_right_N).sum())
    return Comparison(
        accuracy=_difference(accuracy_MR[0], accuracy_MR[1], several),
        macro_f1=_difference(f1_MR[0], f1_MR[1], several),
        both_right=int((first_right_N & second_right_N).sum()),
        only_first=alone[0],
        only_second=alone[1],
        neither=int((~first_right_N & ~second_right_N).sum()),
        mcnemar_p=mcnemar(*alone),
        tracks=N,
        unit=unit,
        groups=groups.count,
        group_kind=groups.kind,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test (McNemar, Psychometrika 12, 1947; a binomial test).

    Take the tracks that only one model answers correctly: if both models were equally good, each would be right on half
    of them. The test treats tracks as independent, so its p is too small if artists have many tracks.

    Args:
        only_first: number of tracks that only the first model answers correctly.
        only_second: number of tracks that only the second model answers correctly.
    """
    # A dependency of scikit-learn that takes a moment to import.
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0


def _macro_f1(counts_RC: npt.NDArray[np.float64], place: int, G: int) -> npt.NDArray[np.float64]:
    """Return the mean F1 over the genres that each replicate has, as in `scores.score`."""
    whole_RG = counts_RC[:, :G]
    right_RG, answered_RG = counts_RC[:, place : place + G], counts_RC[:, place + G : place + 2 * G]
    f1_RG = 2 * right_RG / np.maximum(whole_RG + answered_RG, 1)
    mean_R: npt.NDArray[np.float64] = np.nanmean(np.where(whole_RG > 0, f1_RG, np.nan), axis=1)
    return mean_R


def _difference(first_R: npt.NDArray[np.float64], second_R: npt.NDArray[np.float64], several: bool) -> Difference:
    difference_R = second_R - first_R
    return Difference(
        float(first_R[-1]),
        float(second_R[-1]),
        float(difference_R[-1]),
        interval(difference_R[:-1]) if several else None,
    )
