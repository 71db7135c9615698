from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mgc
from mgc.errors import BundleError, FeaturesError
from mgc.evaluation.intervals import REPLICATES, SEED, Interval, ResamplingGroups
from mgc.evaluation.scores import TOP_K, Scores, score

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


@settings(max_examples=25)
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
    if scores.accuracy_interval is not None:
        assert scores.accuracy_interval.low <= scores.accuracy <= scores.accuracy_interval.high
    assert (scores.groups, scores.group_kind) == (tracks, "tracks")
    shares = [scores.accuracy, *scores.top_k_accuracy.values()]
    assert shares == sorted(shares)
    assert sum(row.support for row in scores.per_genre) == sum(row.answered for row in scores.per_genre) == tracks
    assert Scores.from_json(json.loads(json.dumps(scores.to_json()))) == scores


def test_intervals_are_those_of_scores_of_the_units_drawn() -> None:
    """Every replicate drawn again, unit by unit, and scored for itself by scikit-learn's and NumPy's own words."""
    random = np.random.default_rng(12)
    true_N = random.choice(3, 60, p=[0.6, 0.3, 0.1])
    logits_NG = random.normal(size=(60, 4))
    logits_NG[np.arange(60), true_N] += 1.0
    groups = ResamplingGroups.of(random.integers(0, 14, 60).tolist(), "artists")
    scores = score(true_N, logits_NG, GENRES, groups)
    again = np.random.default_rng(SEED)
    drawn: dict[str, list[float]] = {}
    for _ in range(REPLICATES):
        chosen = again.integers(0, groups.count, groups.count)
        units = np.concatenate([np.flatnonzero(groups.index_N == group) for group in chosen])
        for name, value in by_hand(true_N[units], logits_NG[units]).items():
            drawn.setdefault(name, []).append(value)
    unknown = {"recall 3", "f1 3"}
    wanted = {name: np.nanpercentile(values, [2.5, 97.5]) for name, values in drawn.items() if name not in unknown}

    def check(name: str, found: Interval | None) -> None:
        assert found is not None, name
        assert (found.low, found.high) == pytest.approx(tuple(wanted[name])), name

    check("accuracy", scores.accuracy_interval)
    check("macro_f1", scores.macro_f1_interval)
    for k in TOP_K:
        check(f"top {k}", scores.top_k_intervals[k])
    for g, row in enumerate(scores.per_genre[:3]):
        check(f"precision {g}", row.precision_interval)
        check(f"recall {g}", row.recall_interval)
        check(f"f1 {g}", row.f1_interval)
        assert row.groups == len(np.unique(groups.index_N[true_N == g]))
    assert (scores.groups, scores.group_kind) == (14, "artists")


def by_hand(true_N: npt.NDArray[np.int64], logits_NG: npt.NDArray[np.float64]) -> dict[str, float]:
    """Scores of a replicate; NaN where one is not defined."""
    answers_N = logits_NG.argmax(axis=1)
    rank_N = (logits_NG > logits_NG[np.arange(len(true_N)), true_N][:, None]).sum(axis=1)
    values = {
        "accuracy": float(np.mean(answers_N == true_N)),
        **{f"top {k}": float(np.mean(rank_N < k)) for k in TOP_K},
    }
    for g in range(4):
        there, said = true_N == g, answers_N == g
        right = (there & said).sum()
        values[f"precision {g}"] = right / said.sum() if said.any() else np.nan
        values[f"recall {g}"] = right / there.sum() if there.any() else np.nan
        values[f"f1 {g}"] = 2 * right / (there.sum() + said.sum()) if there.any() else np.nan
    values["macro_f1"] = float(np.nanmean([values[f"f1 {g}"] for g in range(4)]))
    return values


def test_tracks_of_one_artist_widen_the_interval() -> None:
    true_N = np.zeros(200, int)
    answers_NG = one_hot(np.repeat(np.arange(20) % 2, 10), 2)
    alone = score(true_N, answers_NG, ("a", "b")).accuracy_interval
    grouped = score(
        true_N, answers_NG, ("a", "b"), ResamplingGroups(np.repeat(np.arange(20), 10), "artists")
    ).accuracy_interval
    assert alone is not None
    assert grouped is not None
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)


def test_one_artist_gives_scores_without_intervals() -> None:
    scores = score(TRUE, one_hot(ANSWERED, 4), GENRES, ResamplingGroups.of(["x"] * 10, "artists"))
    assert scores.accuracy == 0.6
    assert scores.accuracy_interval is scores.macro_f1_interval is None
    assert set(scores.top_k_intervals.values()) == {None}
    assert all(row.precision_interval is row.recall_interval is row.f1_interval is None for row in scores.per_genre)


def test_a_genre_of_one_artist_has_no_interval_of_its_own() -> None:
    artists = ["a", "a", "a", "b", "c", "d", "d", "e", "e", "e"]
    blues, folk, jazz, rock = score(
        TRUE, one_hot(ANSWERED, 4), GENRES, ResamplingGroups.of(artists, "artists")
    ).per_genre
    assert (blues.groups, folk.groups, jazz.groups, rock.groups) == (1, 2, 2, 0)
    assert blues.recall_interval is blues.f1_interval is None
    # An answer of another artist's was blues, too.
    assert blues.precision_interval is not None
    assert folk.f1_interval is not None
    assert rock.recall_interval is rock.f1_interval is None


def test_all_right_is_not_certain() -> None:
    scores = score(TRUE, one_hot(TRUE, 4), GENRES)
    assert scores.accuracy_interval is not None
    assert scores.accuracy_interval.low == pytest.approx(0.7224672, abs=1e-6)
    assert scores.accuracy_interval.high == 1.0
    assert scores.macro_f1_interval is None


def test_clips_as_units() -> None:
    scores = score(TRUE, one_hot(ANSWERED, 4), GENRES, unit="clips")
    assert (scores.unit, scores.groups, scores.group_kind) == ("clips", 10, "clips")
    by_track = score(TRUE, one_hot(ANSWERED, 4), GENRES, ResamplingGroups(np.arange(10) // 2, "tracks"), "clips")
    assert (by_track.unit, by_track.groups, by_track.group_kind) == ("clips", 5, "tracks")
    assert by_track.accuracy == scores.accuracy


def test_scores_from_before_there_were_groups(scores: Scores) -> None:
    """As format 1 of older bundles has them: one interval, Wilson's, and no more."""
    new = (
        "accuracy_interval",
        "macro_f1_interval",
        "top_k_intervals",
        "unit",
        "groups",
        "effective_groups",
        "group_kind",
    )
    old = {name: value for name, value in scores.to_json().items() if name not in new}
    rows = ("precision_interval", "recall_interval", "f1_interval", "groups")
    old["per_genre"] = [{name: row[name] for name in row if name not in rows} for row in old["per_genre"]]
    read = Scores.from_json({**old, "accuracy_low": 0.31, "accuracy_high": 0.83})
    assert read.accuracy_interval == Interval(0.31, 0.83)
    assert (read.unit, read.groups, read.effective_groups, read.group_kind) == ("tracks", None, None, None)
    assert read.per_genre[0].f1_interval is None
    assert read.confusion == scores.confusion
    assert Scores.from_json(read.to_json()) == read


def test_the_default_bundles_scores_are_read() -> None:
    metrics = json.loads((Path(mgc.__file__).parent / "default_bundle" / "metrics.json").read_text())
    read = Scores.from_json(metrics["test"]["scores"])
    assert read.accuracy_interval is not None
    assert read.accuracy_interval.low < read.accuracy < read.accuracy_interval.high


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


def test_groups_of_another_number_of_tracks_are_refused() -> None:
    with pytest.raises(ValueError, match="grouped"):
        score(np.array([0, 1]), np.eye(2), ("a", "b"), ResamplingGroups.singles(3, "tracks"))
