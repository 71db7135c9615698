"""Two models on the same tracks: which is better, and how sure that is.

The scores of two models on one split go up and down together, since both find the same tracks hard: whether one is
better is seen in the differences, not in whether two intervals overlap. So groups (artists) are drawn anew for both
models at once, and what is looked at is the difference: a paired bootstrap.

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
        first: of the first model.
        second: of the second one.
        difference: second less first.
        interval: of the difference, of 95 %; None where there are fewer than two groups, or no replicate differs.
    """

    first: float
    second: float
    difference: float
    interval: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Two models on the same tracks.

    Attributes:
        accuracy: share of tracks answered rightly.
        macro_f1: mean F1 over the genres that there are tracks of.
        both_right: tracks.
        only_first: tracks that the first model alone answers rightly.
        only_second: tracks that the second model alone answers rightly.
        neither: tracks.
        mcnemar_p: of McNemar's test, see `mcnemar`.
        tracks: all of them; clips where `unit` says so.
        unit: what was answered.
        groups: how many groups the bootstrap drew from.
        group_kind: what a group is.
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
        """JSON-ready values."""
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
        truth_N: true genres, numbers from 0 on.
        first_N: answers of the first model, in the same numbers.
        second_N: answers of the second model.
        groups: which units are alike.
        unit: what a row is.

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
    # Counts: tracks of each genre, all tracks; then for each model the right ones and the answers by genre, all right.
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
    # The last row is what was really counted.
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
    """The two-sided p of McNemar's test in its exact form (McNemar, Psychometrika 12, 1947; a binomial test).

    If both models were equally good, each would be the one that is right in half of the tracks on which only one of
    them is. The test takes tracks as independent: with many tracks an artist its p is too small.

    Args:
        only_first: tracks that the first model alone answers rightly.
        only_second: tracks that the second one alone answers rightly.
    """
    # scikit-learn brings it; it takes a moment to import.
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0


def _macro_f1(counts_RC: npt.NDArray[np.float64], place: int, G: int) -> npt.NDArray[np.float64]:
    """Mean F1 over the genres that a replicate has: as `scores.score`."""
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
