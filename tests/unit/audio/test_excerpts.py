from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mgc.audio.excerpts import WHOLE_TOLERANCE, Excerpt, ListeningPlan


@pytest.mark.parametrize(
    ("duration_seconds", "starts"),
    [
        (20.0, [0.0]),
        (30.0, [0.0]),
        (32.9, [0.0]),
        (50.0, [10.0]),
        (70.0, [2.5, 37.5]),
        (90.0, [0.0, 30.0, 60.0]),
        (240.0, [25.0, 105.0, 185.0]),
    ],
)
def test_three_windows_of_half_a_minute(duration_seconds: float, starts: list[float]) -> None:
    heard = ListeningPlan().excerpts(duration_seconds)
    assert [excerpt.start_seconds for excerpt in heard] == pytest.approx(starts)
    assert sum(excerpt.seconds for excerpt in heard) <= duration_seconds


def test_one_window_is_the_middle() -> None:
    assert ListeningPlan(windows=1).excerpts(100.0) == (Excerpt(35.0, 30.0),)


def test_about_one_window_is_heard_whole() -> None:
    assert ListeningPlan(window_seconds=10.0).excerpts(10.9) == (Excerpt(0.0, 10.9),)
    assert ListeningPlan(window_seconds=10.0).excerpts(11.1) == (Excerpt(pytest.approx(0.55), 10.0),)


@given(
    duration_seconds=st.floats(0.0, 1e6),
    window_seconds=st.floats(0.5, 600.0),
    windows=st.integers(1, 100),
)
def test_windows_lie_in_order_inside_the_track(duration_seconds: float, window_seconds: float, windows: int) -> None:
    heard = ListeningPlan(window_seconds, windows).excerpts(duration_seconds)
    slack = 1e-9 * max(1.0, duration_seconds)
    assert 1 <= len(heard) <= windows
    assert heard[0].start_seconds >= 0
    for before, after in itertools.pairwise(heard):
        assert after.start_seconds >= before.start_seconds + before.seconds - slack
    assert heard[-1].start_seconds + heard[-1].seconds <= duration_seconds + slack
    if duration_seconds <= window_seconds * WHOLE_TOLERANCE:
        assert heard == (Excerpt(0.0, duration_seconds),)
    else:
        assert len(heard) == min(windows, int(duration_seconds / window_seconds))
        assert {excerpt.seconds for excerpt in heard} == {window_seconds}
        # The same silence before the first window as behind the last.
        behind = duration_seconds - heard[-1].start_seconds - heard[-1].seconds
        assert heard[0].start_seconds == pytest.approx(behind, abs=slack)


@pytest.mark.parametrize("wrong", [{"window_seconds": 0.1}, {"windows": 0}, {"windows": 2.5}, {"seconds": 3.0}])
def test_refuses_wrong_values(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ListeningPlan(**wrong)  # type: ignore[arg-type]


def test_the_first_windows() -> None:
    plan = ListeningPlan(window_seconds=10.0, windows=2, where="first")
    assert plan.excerpts(100.0) == (Excerpt(0.0, 10.0), Excerpt(10.0, 10.0))
    assert plan.excerpts(15.0) == (Excerpt(0.0, 10.0),)


@given(duration_seconds=st.floats(0.0, 20_000.0), window_seconds=st.floats(10.0, 600.0))
def test_all_of_it_is_heard_once(duration_seconds: float, window_seconds: float) -> None:
    heard = ListeningPlan(window_seconds, windows=1, where="all").excerpts(duration_seconds)
    assert heard[0].start_seconds == 0
    for before, after in itertools.pairwise(heard):
        assert after.start_seconds == pytest.approx(before.start_seconds + before.seconds, abs=1e-6)
    assert heard[-1].start_seconds + heard[-1].seconds == pytest.approx(duration_seconds)
    assert all(excerpt.seconds <= 1.5 * window_seconds + 1e-6 for excerpt in heard)


@given(duration_seconds=st.floats(40.0, 1e4), seed=st.integers(0, 5), track_id=st.text(max_size=5))
def test_random_places_are_the_track_s_own(duration_seconds: float, seed: int, track_id: str) -> None:
    plan = ListeningPlan(window_seconds=10.0, windows=3, where="random", seed=seed)
    heard = plan.excerpts(duration_seconds, track_id)
    assert heard == plan.excerpts(duration_seconds, track_id)
    assert len(heard) == 3
    assert {excerpt.seconds for excerpt in heard} == {10.0}
    for before, after in itertools.pairwise(heard):
        assert after.start_seconds >= before.start_seconds + 10.0 - 1e-6
    assert heard[0].start_seconds >= 0
    assert heard[-1].start_seconds + 10.0 <= duration_seconds + 1e-6
    assert heard != plan.excerpts(duration_seconds, track_id + "x")
