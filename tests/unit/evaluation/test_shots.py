from __future__ import annotations

import json

import numpy as np
import pytest

from mgc.errors import ConfigError
from mgc.evaluation.shots import LIU_THRESHOLDS, shot_scores, shots_to_json

GENRES = ("a", "b", "c", "d", "e")
COUNTS = (100, 101, 19, 20, 1)
CONFUSION = [
    [8, 2, 0, 0, 0],
    [1, 9, 0, 0, 0],
    [4, 3, 3, 0, 0],
    [5, 0, 0, 5, 0],
    [9, 0, 0, 0, 1],
]


def test_liu_et_al_count_the_ends_in() -> None:
    many, medium, few = shot_scores(CONFUSION, GENRES, COUNTS, LIU_THRESHOLDS)
    assert (many.genres, many.accuracy, many.tracks) == (("b",), 0.9, 10)
    assert medium.genres == ("a", "d")
    assert medium.training_counts == (100, 20)
    assert medium.accuracy == pytest.approx((0.8 + 0.5) / 2)
    assert few.genres == ("c", "e")
    assert few.accuracy == pytest.approx((0.3 + 0.1) / 2)
    assert [each.group for each in (many, medium, few)] == ["many", "medium", "few"]


@pytest.mark.parametrize(
    ("number", "sizes"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (5, [2, 2, 1]), (8, [3, 3, 2])]
)
def test_thirds_go_by_training_counts_then_names(number: int, sizes: list[int]) -> None:
    names = [f"g{place}" for place in range(number)]
    # All alike but the last, which has the most.
    counts = [5] * (number - 1) + [9]
    groups = shot_scores(np.eye(number, dtype=int), names, counts)
    assert [len(group.genres) for group in groups] == sizes
    assert [name for group in groups for name in group.genres] == [names[-1], *names[:-1]]
    assert all(group.accuracy == (1.0 if group.genres else None) for group in groups)


def test_on_a_balanced_split_it_is_the_share_of_the_group_s_tracks() -> None:
    random = np.random.default_rng(0)
    true, answered = np.repeat(np.arange(6), 50), random.integers(0, 6, 300)
    confusion_GG = np.zeros((6, 6), np.int64)
    np.add.at(confusion_GG, (true, answered), 1)
    groups = shot_scores(confusion_GG, tuple("uvwxyz"), (60, 50, 40, 30, 20, 10))
    for group, members in zip(groups, ((0, 1), (2, 3), (4, 5)), strict=True):
        inside = np.isin(true, members)
        assert group.tracks == 100
        assert group.accuracy == pytest.approx((true == answered)[inside].mean())


def test_a_genre_without_tracks_is_left_out() -> None:
    confusion_GG = np.array(CONFUSION)
    confusion_GG[4] = 0
    few = shot_scores(confusion_GG, GENRES, COUNTS, LIU_THRESHOLDS)[2]
    assert (few.genres, few.tracks, few.accuracy) == (("c", "e"), 10, pytest.approx(0.3))
    confusion_GG[2] = 0
    assert shot_scores(confusion_GG, GENRES, COUNTS, LIU_THRESHOLDS)[2].accuracy is None


def test_the_json_form() -> None:
    value = json.loads(json.dumps(shots_to_json(shot_scores(CONFUSION, GENRES, COUNTS, (1000, 50)))))
    assert value[0] == {"group": "many", "genres": [], "training_counts": [], "tracks": 0, "accuracy": None}
    assert value[1]["genres"] == ["b", "a"]
    assert value[2]["training_counts"] == [20, 19, 1]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="thresholds 20 and 100"):
        shot_scores(CONFUSION, GENRES, COUNTS, (20, 100))
    with pytest.raises(ValueError, match="do not fit"):
        shot_scores(CONFUSION, GENRES, COUNTS[:4])
    with pytest.raises(ValueError, match="do not fit"):
        shot_scores(CONFUSION[:4], GENRES, COUNTS)
