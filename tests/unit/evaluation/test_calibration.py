from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from mgc.configuration import to_json
from mgc.errors import BundleError, FeaturesError
from mgc.evaluation.calibration import Calibration, calibration
from mgc.evaluation.intervals import ResamplingGroups

CONFIDENCE = np.array([0.6, 0.7, 0.75, 0.9, 0.95])
RIGHT = np.array([True, False, False, True, True])


def two_genres(confidence_N: np.ndarray, right_N: np.ndarray, **options: object) -> Calibration:
    """Answers are all the first genre, so what is right is true of it."""
    probabilities_NG = np.stack([confidence_N, 1 - confidence_N], axis=1)
    return calibration(np.where(right_N, 0, 1), probabilities_NG, **options)  # type: ignore[arg-type]


def test_errors_by_hand() -> None:
    """Four bins: 0.75 lies on an edge and belongs below it, as in the paper."""
    made = two_genres(CONFIDENCE, RIGHT, bins=4)
    assert [each.tracks for each in made.bins] == [0, 0, 3, 2]
    assert [each.accuracy for each in made.bins] == [None, None, pytest.approx(1 / 3), 1.0]
    assert [each.confidence for each in made.bins] == [None, None, pytest.approx(2.05 / 3), pytest.approx(0.925)]
    assert (made.bins[2].low, made.bins[2].high) == (0.5, 0.75)
    assert made.expected_error == pytest.approx(3 / 5 * (2.05 / 3 - 1 / 3) + 2 / 5 * (1 - 0.925))
    assert made.largest_error == pytest.approx(2.05 / 3 - 1 / 3)
    assert made.confidence == pytest.approx(0.78)
    assert made.accuracy == pytest.approx(0.6)


def test_a_calibrated_model_has_a_small_error_and_a_boastful_one_a_large_one() -> None:
    random = np.random.default_rng(8)
    confidence_N = random.uniform(0.5, 1, 20_000)
    right_N = random.random(20_000) < confidence_N
    assert two_genres(confidence_N, right_N).expected_error < 0.015
    boasting = two_genres(np.sqrt(confidence_N), right_N)
    assert boasting.expected_error == pytest.approx(boasting.confidence - boasting.accuracy, abs=1e-6)
    assert boasting.expected_error > 0.1


def test_certainty_falls_into_the_last_bin() -> None:
    made = calibration(np.array([0, 1]), np.array([[1.0, 0.0], [1.0 + 1e-9, 0.0]]))
    assert made.bins[-1].tracks == 2
    assert made.expected_error == pytest.approx(0.5)


def test_intervals_go_by_groups() -> None:
    confidence_N, right_N = np.full(40, 0.8), np.arange(40) % 4 > 0
    by_track = two_genres(confidence_N, right_N).bins[11]
    alike = two_genres(confidence_N, np.arange(40) >= 10, groups=ResamplingGroups(np.arange(40) // 10, "artists")).bins[
        11
    ]
    one = two_genres(confidence_N, right_N, groups=ResamplingGroups(np.zeros(40, np.int64), "artists")).bins[11]
    assert by_track.accuracy == alike.accuracy == 0.75
    assert by_track.accuracy_interval is not None
    assert alike.accuracy_interval is not None
    assert (alike.accuracy_interval.low, alike.accuracy_interval.high) == (0.25, 1.0)
    assert by_track.accuracy_interval.low > 0.5
    assert one.accuracy_interval is None


def test_there_and_back_through_json() -> None:
    made = two_genres(CONFIDENCE, RIGHT)
    assert TypeAdapter(Calibration).validate_python(json.loads(json.dumps(to_json(made)))) == made


@pytest.mark.parametrize("row", [[2.0, -1.0], [1.0, 1.0], [np.nan, 1.0]])
def test_logits_are_refused(row: list[float]) -> None:
    with pytest.raises(BundleError, match="sum to 1"):
        calibration(np.array([0]), np.array([row]))


def test_no_track_is_refused() -> None:
    with pytest.raises(FeaturesError, match="no track"):
        calibration(np.array([], int), np.zeros((0, 2)))
