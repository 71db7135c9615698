"""Two models on the same tracks, against computations of another kind."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from mgc.errors import FeaturesError
from mgc.evaluation.comparison import compare, mcnemar
from mgc.evaluation.intervals import REPLICATES, SEED, ResamplingGroups

GENRES = 4


def tracks(artists: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, ResamplingGroups]:
    """Artists of one to six tracks, of one genre each; models that find the same artists hard, the second is better."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 7, artists)
    genre_N = np.repeat(random.integers(0, GENRES, artists), sizes)
    hard_N = np.repeat(random.random(artists), sizes)
    answers = []
    for skill in (0.45, 0.6):
        right_N = hard_N + 0.3 * random.random(len(genre_N)) < skill + 0.15
        wrong_N = (genre_N + random.integers(1, GENRES, len(genre_N))) % GENRES
        answers.append(np.where(right_N, genre_N, wrong_N))
    return (
        genre_N,
        answers[0],
        answers[1],
        ResamplingGroups.of(np.repeat(np.arange(artists), sizes).tolist(), "artists"),
    )


def test_the_figures_are_scikit_learns() -> None:
    truth_N, first_N, second_N, groups = tracks(60)
    found = compare(truth_N, first_N, second_N, groups)
    for answer_N, accuracy, macro_f1 in (
        (first_N, found.accuracy.first, found.macro_f1.first),
        (second_N, found.accuracy.second, found.macro_f1.second),
    ):
        assert accuracy == pytest.approx(accuracy_score(truth_N, answer_N))
        assert macro_f1 == pytest.approx(f1_score(truth_N, answer_N, average="macro"))
    assert found.accuracy.difference == pytest.approx(found.accuracy.second - found.accuracy.first)
    assert (found.tracks, found.groups, found.group_kind) == (len(truth_N), 60, "artists")
    assert found.both_right + found.only_first + found.only_second + found.neither == len(truth_N)
    assert (found.only_second - found.only_first) / len(truth_N) == pytest.approx(found.accuracy.difference)
    assert found.mcnemar_p == mcnemar(found.only_first, found.only_second)


def test_the_intervals_are_those_of_tracks_drawn_one_by_one() -> None:
    """The same draws of artists, but scores of the drawn tracks by scikit-learn, track by track."""
    truth_N, first_N, second_N, groups = tracks(30, seed=3)
    random = np.random.default_rng(SEED)
    accuracies, f1s = [], []
    for _ in range(REPLICATES):
        drawn = random.integers(0, groups.count, groups.count)
        rows = np.concatenate([np.flatnonzero(groups.index_N == group) for group in drawn])
        present = np.unique(truth_N[rows])
        accuracies.append(np.mean(second_N[rows] == truth_N[rows]) - np.mean(first_N[rows] == truth_N[rows]))
        both = [
            _f1(truth_N[rows], answer_N[rows], present)  # scikit-learn's, in a tenth of its time
            for answer_N in (first_N, second_N)
        ]
        f1s.append(both[1] - both[0])
    found = compare(truth_N, first_N, second_N, groups)
    for difference, values in ((found.accuracy, accuracies), (found.macro_f1, f1s)):
        assert difference.interval is not None
        ends = (difference.interval.low, difference.interval.high)
        assert ends == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), abs=1e-12)


def _f1(truth_N: np.ndarray, answer_N: np.ndarray, present: np.ndarray) -> float:
    each = [
        2 * np.sum((truth_N == g) & (answer_N == g)) / (np.sum(truth_N == g) + np.sum(answer_N == g)) for g in present
    ]
    return float(np.mean(each))


def test_what_is_alike_in_both_does_not_widen_the_interval() -> None:
    """A difference that two single intervals would not show."""
    truth_N, first_N, second_N, groups = tracks(200, seed=1)
    found = compare(truth_N, first_N, second_N, groups)
    assert found.accuracy.interval is not None
    assert found.accuracy.interval.low > 0
    alone = compare(truth_N, np.full_like(first_N, GENRES), second_N, groups).accuracy.interval
    assert alone is not None
    paired = found.accuracy.interval.high - found.accuracy.interval.low
    assert paired < 0.7 * (alone.high - alone.low)


def test_the_order_turns_the_signs_around() -> None:
    truth_N, first_N, second_N, groups = tracks(40)
    one, other = compare(truth_N, first_N, second_N, groups), compare(truth_N, second_N, first_N, groups)
    assert one.accuracy.interval is not None
    assert other.accuracy.interval is not None
    assert one.accuracy.difference == -other.accuracy.difference
    assert one.accuracy.interval.low == pytest.approx(-other.accuracy.interval.high)
    assert (one.only_first, one.only_second) == (other.only_second, other.only_first)


def test_equal_answers_have_no_interval_and_no_p() -> None:
    truth_N, first_N, _, groups = tracks(10)
    found = compare(truth_N, first_N, first_N, groups)
    assert (found.accuracy.difference, found.accuracy.interval, found.mcnemar_p) == (0.0, None, 1.0)
    one_artist = compare(truth_N, first_N, truth_N, ResamplingGroups.of([0] * len(truth_N), "artists"))
    assert one_artist.accuracy.interval is None
    assert one_artist.macro_f1.interval is None


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (3, 9), (9, 3), (6, 6), (40, 61), (0, 30)])
def test_mcnemar_is_twice_the_smaller_tail(first: int, second: int) -> None:
    total = first + second
    tail = sum(comb(total, k) for k in range(min(first, second) + 1)) / 2**total
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))


def test_nothing_to_compare_is_refused() -> None:
    nothing = np.array([], np.int64)
    with pytest.raises(FeaturesError, match="no track"):
        compare(nothing, nothing, nothing, ResamplingGroups.of([], "artists"))
    one = np.array([0])
    with pytest.raises(ValueError, match="2 answers"):
        compare(one, one, np.array([0, 1]), ResamplingGroups.of(["a"], "artists"))
