from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.datasets import long_tail
from mgc.errors import ConfigError


def corpus(**counts: int) -> dict[str, str]:
    return {f"{genre}-{number}": genre for genre, count in counts.items() for number in range(count)}


def test_the_profile_by_hand() -> None:
    # 800 · 100^(-c/4) = 800, 252.98, 80, 25.30, 8; the three of equal count in order of their names.
    counts = {"pop": 790, "rock": 800, "folk": 790, "jazz": 500, "blues": 790}
    assert long_tail.profile(counts, 100) == {"rock": 800, "blues": 253, "folk": 80, "pop": 25, "jazz": 8}


def test_the_profile_is_exponential() -> None:
    kept = long_tail.profile({f"g{number}": 10_000 for number in range(8)}, 100)
    steps = [math.log(kept[f"g{c}"] / kept[f"g{c + 1}"]) for c in range(7)]
    assert steps == pytest.approx([math.log(100) / 7] * 7, rel=0.01)
    assert kept["g0"] / kept["g7"] == 100


def test_edges_of_the_profile() -> None:
    assert long_tail.profile({"a": 5, "b": 3}, 1) == {"a": 5, "b": 3}
    # One track is left of a genre at least, and no more than there are.
    assert long_tail.profile({"a": 5, "b": 3}, 100) == {"a": 5, "b": 1}
    assert long_tail.profile({"a": 100, "b": 2, "c": 1}, 4) == {"a": 100, "b": 2, "c": 1}
    assert long_tail.profile({"only": 7}, 100) == {"only": 7}


@pytest.mark.parametrize(("counts", "ratio"), [({"a": 1}, 0.5), ({"a": 1}, math.nan), ({}, 10), ({"a": 0}, 10)])
def test_what_has_no_profile_is_refused(counts: dict[str, int], ratio: float) -> None:
    with pytest.raises(ConfigError, match="long tail: "):
        long_tail.profile(counts, ratio)


def test_tracks_are_kept_by_the_profile() -> None:
    genres = corpus(rock=200, folk=200, jazz=200)
    kept = long_tail.thin(genres, 100)
    assert Counter(genres[track] for track in kept) == {"folk": 200, "jazz": 20, "rock": 2}


def test_a_larger_ratio_lies_within_a_smaller_one() -> None:
    genres = corpus(rock=200, folk=190, jazz=180)
    subsets = [long_tail.thin(genres, ratio) for ratio in (1, 3, 10, 100)]
    assert subsets[0] == set(genres)
    for wide, narrow in itertools.pairwise(subsets):
        assert narrow < wide


@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_order_of_the_tracks_does_not_matter_and_the_seed_does(random: object, seed: int) -> None:
    genres = corpus(rock=30, folk=30)
    tracks = list(genres)
    random.shuffle(tracks)  # type: ignore[attr-defined]
    kept = long_tail.thin({track: genres[track] for track in tracks}, 10, seed)
    assert kept == long_tail.thin(genres, 10, seed)
    assert kept != long_tail.thin(genres, 10, seed + 1)


def test_the_choice_is_pinned() -> None:
    """A change here makes every figure on such a subset another one."""
    kept = long_tail.thin(corpus(rock=100, folk=100), 50)
    assert sorted(track for track in kept if track.startswith("rock")) == PINNED


PINNED = ["rock-54", "rock-98"]


def test_the_notice_says_what_was_done() -> None:
    assert long_tail.notice(100, 20, 300).startswith("Unbalanced on purpose: 20 of 300 training tracks are left")
    assert "100 to 1" in long_tail.notice(100, 20, 300)
