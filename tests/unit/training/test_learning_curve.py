from __future__ import annotations

import pytest

from mgc.training.learning_curve import needs_of


def test_a_power_law_is_continued() -> None:
    # error = n^-0.5: 0.5, 0.354, 0.25 with 4, 8 and 16 labels.
    points = [(count, 1 - count**-0.5) for count in (4, 8, 11)]
    need = needs_of("jazz", 11, points)
    assert need.f1 == pytest.approx(1 - 11**-0.5)
    # The error is 0.3 with 11.1 labels.
    assert need.more == 1
    assert needs_of("jazz", 11, points, 0.8).more in (14, 15)


@pytest.mark.parametrize(
    "points",
    [[(4, 0.3), (8, 0.3), (16, 0.3)], [(4, 0.5), (8, 0.4), (16, 0.3)], [(1, 0.0), (1, 0.0), (1, 0.0)], [(5, 0.2)]],
)
def test_where_more_labels_hardly_help_no_number_is_given(points: list[tuple[float, float]]) -> None:
    assert needs_of("pop", 20, points).more is None


def test_a_forecast_too_far_away_is_none() -> None:
    assert needs_of("pop", 20, [(5, 0.1), (10, 0.16), (20, 0.22)], 0.7).more is None


def test_a_strong_genre_needs_nothing() -> None:
    assert needs_of("folk", 20, [(5, 0.9), (20, 0.95)]).more == 0
