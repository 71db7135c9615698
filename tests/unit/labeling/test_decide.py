from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mgc.labeling.decide import decide, track_probabilities

GENRES = ("folk", "jazz", "rock")
LOGITS = arrays(np.float32, st.tuples(st.integers(1, 5), st.just(3)), elements=st.floats(-50, 50, width=32))


def test_probabilities_by_hand() -> None:
    logits_CG = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, math.log(16)]], np.float32)
    # Means 1, 0, log 4.
    wanted_G = np.array([math.e, 1, 4]) / (math.e + 5)
    np.testing.assert_allclose(track_probabilities(logits_CG), wanted_G, rtol=1e-6)


def test_a_decision_lists_genres_in_falling_order() -> None:
    decision = decide(np.array([[0.0, 3.0, 1.0]], np.float32), GENRES, 2)
    assert decision.genre_top == "jazz"
    assert [genre for genre, _ in decision.top_k] == ["jazz", "rock"]
    assert decision.confidence == decision.top_k[0][1] > decision.top_k[1][1]
    assert all(type(probability) is float for _, probability in decision.top_k)


def test_of_equals_the_first_comes_first_and_the_list_ends_with_the_genres() -> None:
    decision = decide(np.zeros((2, 3), np.float32), GENRES, 9)
    assert decision.top_k == tuple((genre, pytest.approx(1 / 3)) for genre in GENRES)


def test_many_equals_keep_their_order() -> None:
    names = tuple(f"genre {index}" for index in range(40))
    assert tuple(genre for genre, _ in decide(np.zeros((1, 40), np.float32), names, 40).top_k) == names


def test_large_logits_do_not_overflow() -> None:
    decision = decide(np.array([[1e30, 0.0, -1e30]], np.float32), GENRES, 3)
    assert decision.top_k == (("folk", 1.0), ("jazz", 0.0), ("rock", 0.0))


@settings(max_examples=50, deadline=None)
@given(LOGITS, st.floats(-20, 20, width=32))
def test_only_differences_between_genres_count_and_not_the_order_of_clips(logits_CG: np.ndarray, shift: float) -> None:
    probabilities_G = track_probabilities(logits_CG)
    assert probabilities_G.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(
        track_probabilities(logits_CG + np.float32(shift)), probabilities_G, rtol=1e-3, atol=1e-9
    )
    np.testing.assert_allclose(track_probabilities(logits_CG[::-1]), probabilities_G, rtol=1e-9)
    assert decide(logits_CG, GENRES, 1).confidence == pytest.approx(probabilities_G.max())


@pytest.mark.parametrize(("clips", "top_k"), [(0, 3), (1, 0), (1, -1)])
def test_nothing_to_decide_is_an_error(clips: int, top_k: int) -> None:
    with pytest.raises(ValueError, match="a decision needs"):
        decide(np.zeros((clips, 3), np.float32), GENRES, top_k)
