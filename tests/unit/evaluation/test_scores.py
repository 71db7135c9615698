from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.errors import BundleError, FeaturesError
from mgc.evaluation.scores import Scores, score, wilson_interval

GENRES = ("blues", "folk", "jazz", "rock")

# blues blues blues folk folk jazz jazz jazz jazz jazz; rock has no track.
TRUE = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
ANSWERED = np.array([0, 0, 2, 1, 3, 2, 2, 2, 0, 3])


def one_hot(answers_N: npt.NDArray[np.int64], genres: int) -> npt.NDArray[np.float64]:
    return np.eye(genres)[answers_N]


@pytest.fixture
def scores() -> Scores:
    return score(TRUE, one_hot(ANSWERED, 4), GENRES)


def test_confusion_has_the_true_genre_in_rows(scores: Scores) -> None:
    assert scores.confusion == ((2, 0, 1, 0), (0, 1, 0, 1), (1, 0, 3, 1), (0, 0, 0, 0))
    assert scores.tracks == 10
    assert scores.accuracy == pytest.approx(6 / 10)


def test_per_genre_rows_by_hand(scores: Scores) -> None:
    blues, folk, jazz, rock = scores.per_genre
    assert [row.genre for row in scores.per_genre] == list(GENRES)
    assert (blues.precision, blues.recall, blues.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (folk.precision, folk.recall, folk.f1) == pytest.approx((1.0, 1 / 2, 2 / 3))
    assert (jazz.precision, jazz.recall, jazz.f1) == pytest.approx((3 / 4, 3 / 5, 2 / 3))
    assert (blues.support, folk.support, jazz.support, rock.support) == (3, 2, 5, 0)
    assert (blues.answered, folk.answered, jazz.answered, rock.answered) == (3, 1, 4, 2)


def test_a_genre_without_tracks_has_no_f1_and_is_not_averaged_in(scores: Scores) -> None:
    rock = scores.per_genre[3]
    assert (rock.precision, rock.recall, rock.f1) == (0.0, None, None)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 2 / 3) / 3)


def test_a_genre_never_answered_counts_as_zero_in_macro_f1() -> None:
    scores = score(np.array([0, 0, 1]), one_hot(np.array([0, 0, 0]), 2), ("a", "b"))
    b = scores.per_genre[1]
    assert (b.precision, b.recall, b.f1) == (None, 0.0, 0.0)
    assert scores.macro_f1 == pytest.approx((0.8 + 0.0) / 2)


def test_baselines(scores: Scores) -> None:
    assert scores.chance == pytest.approx(0.25)
    assert scores.majority_genre == "jazz"
    assert scores.majority_accuracy == pytest.approx(0.5)


def test_top_k_by_hand() -> None:
    probabilities_NG = np.array(
        [
            [0.4, 0.3, 0.2, 0.1],  # blues first
            [0.4, 0.3, 0.2, 0.1],  # folk second
            [0.4, 0.3, 0.2, 0.1],  # jazz third
            [0.4, 0.3, 0.2, 0.1],  # rock last
        ]
    )
    scores = score(np.arange(4), probabilities_NG, GENRES)
    assert scores.accuracy == 0.25
    assert scores.top_k_accuracy == {2: 0.5, 3: 0.75}


@pytest.mark.parametrize(("genres", "expected"), [(1, []), (2, []), (3, [2]), (4, [2, 3])])
def test_a_top_k_that_is_always_right_is_left_out(genres: int, expected: list[int]) -> None:
    scores = score(np.zeros(3, int), one_hot(np.zeros(3, int), genres), [str(g) for g in range(genres)])
    assert list(scores.top_k_accuracy) == expected


def test_equal_probabilities_go_to_the_first_genre_in_every_figure() -> None:
    scores = score(np.array([0, 3]), np.full((2, 4), 0.25), GENRES)
    assert scores.accuracy == 0.5
    assert scores.top_k_accuracy == {2: 0.5, 3: 0.5}


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_figures_agree_with_each_other(tracks: int, genres: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    # Few distinct values, so that ties are common.
    probabilities_NG = random.integers(0, 3, (tracks, genres)).astype(float)
    truth_N = random.integers(0, genres, tracks)
    scores = score(truth_N, probabilities_NG, [str(g) for g in range(genres)])
    confusion_GG = np.array(scores.confusion)
    assert confusion_GG.sum() == tracks
    assert scores.accuracy == pytest.approx((probabilities_NG.argmax(axis=1) == truth_N).mean())
    assert scores.accuracy_low <= scores.accuracy <= scores.accuracy_high
    shares = [scores.accuracy, *scores.top_k_accuracy.values()]
    assert shares == sorted(shares)
    assert sum(row.support for row in scores.per_genre) == sum(row.answered for row in scores.per_genre) == tracks
    assert Scores.from_json(json.loads(json.dumps(scores.to_json()))) == scores


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # R 4: prop.test(right, total, correct = FALSE)
    [(8, 10, 0.4901625, 0.9433178), (0, 10, 0.0, 0.2775328), (10, 10, 0.7224672, 1.0), (1, 1, 0.2065493, 1.0)],
)
def test_wilson_interval(right: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=1e-6)


def test_json_ignores_what_it_does_not_know_and_names_what_it_lacks(scores: Scores) -> None:
    values = scores.to_json()
    assert Scores.from_json({**values, "later": 1}) == scores
    del values["macro_f1"]
    with pytest.raises(BundleError, match="macro_f1"):
        Scores.from_json(values)


def test_no_track_is_refused() -> None:
    with pytest.raises(FeaturesError, match="no track"):
        score(np.array([], int), np.zeros((0, 2)), ("a", "b"))


def test_probabilities_of_another_taxonomy_are_refused() -> None:
    with pytest.raises(BundleError, match="2 genres"):
        score(np.array([0]), np.ones((1, 3)), ("a", "b"))


@pytest.mark.parametrize("genre", [-1, 2])
def test_a_true_genre_outside_the_taxonomy_is_refused(genre: int) -> None:
    with pytest.raises(BundleError, match="outside the taxonomy"):
        score(np.array([genre]), np.ones((1, 2)), ("a", "b"))


def test_probabilities_of_a_diverged_model_are_refused() -> None:
    with pytest.raises(BundleError, match="1 of 2 tracks"):
        score(np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]]), ("a", "b"))


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        score(np.array([0, 1]), np.ones((1, 2)), ("a", "b"))
