from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mgc.labeling.adjust import PriorAdjustment, macro_f1_by_tau
from mgc.labeling.decide import track_probabilities

COUNTS = (100, 37, 1)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_the_answer_is_that_of_menon_et_al(tau: float) -> None:
    """Their equation 9: argmax of exp(f_y) · π_y^-τ, in powers and products."""
    logits_NG = np.random.default_rng(0).normal(0, 2, (50, 3)).astype(np.float32)
    before_NG = logits_NG.copy()
    adjusted_NG = PriorAdjustment.from_counts(tau, COUNTS).apply(logits_NG)
    score_NG = np.exp(logits_NG.astype(np.float64)) * (np.array(COUNTS) / 138) ** -tau
    assert adjusted_NG.dtype == np.float32
    np.testing.assert_array_equal(adjusted_NG.argmax(axis=1), score_NG.argmax(axis=1))
    np.testing.assert_allclose(
        np.exp(adjusted_NG) / np.exp(adjusted_NG).sum(1, keepdims=True),
        score_NG / score_NG.sum(1, keepdims=True),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(logits_NG, before_NG)


def test_bayes_rule_with_even_priors() -> None:
    """A network that states the posterior of unbalanced genres comes to state that of balanced ones."""
    likelihood_G = np.array([0.2, 0.3, 0.6])
    prior_G = np.array(COUNTS) / sum(COUNTS)
    posterior_G = likelihood_G * prior_G / (likelihood_G @ prior_G)
    adjusted_G = PriorAdjustment.from_counts(1.0, COUNTS).apply(np.log(posterior_G)[None])
    np.testing.assert_allclose(track_probabilities(adjusted_G), likelihood_G / likelihood_G.sum())


def test_clips_or_their_mean_may_be_adjusted() -> None:
    logits_CG = np.random.default_rng(0).normal(0, 2, (10, 3))
    adjustment = PriorAdjustment.from_counts(1.5, COUNTS)
    np.testing.assert_allclose(
        track_probabilities(adjustment.apply(logits_CG)),
        track_probabilities(adjustment.apply(logits_CG.mean(axis=0, keepdims=True))),
    )


def test_json_and_back() -> None:
    adjustment = PriorAdjustment.from_counts(0.75, (7, 3, 1))
    assert PriorAdjustment.from_json(json.loads(json.dumps(adjustment.to_json()))) == adjustment


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"tau": 1.0},
        {"tau": "1", "priors": [1.0]},
        {"tau": True, "priors": [1.0]},
        {"tau": 1.0, "priors": 1.0},
        {"tau": 1.0, "priors": ["1"]},
        {"tau": 1.0, "priors": []},
        {"tau": 1.0, "priors": [0.5, 0.4]},
        {"tau": 1.0, "priors": [1.0, 0.0]},
        {"tau": 1.0, "priors": [1.5, -0.5]},
        {"tau": 1.0, "priors": [math.nan, 1.0]},
        {"tau": -1.0, "priors": [1.0]},
        {"tau": math.inf, "priors": [1.0]},
        {"tau": 1.0, "priors": [1.0], "more": 1},
    ],
)
def test_what_is_no_adjustment_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="an adjustment"):
        PriorAdjustment.from_json(value)


def test_a_genre_without_clips_has_no_adjustment() -> None:
    with pytest.raises(ValueError, match="greater than zero"):
        PriorAdjustment.from_counts(1.0, (3, 0))


def test_what_each_tau_gives_is_what_scikit_learn_counts() -> None:
    """On a balanced split of a network that leans to the frequent genres, some τ above 0 is best."""
    random = np.random.default_rng(0)
    true_N = np.repeat(np.arange(3), 60)
    logits_NG = random.normal(0, 1, (180, 3)) + 2.5 * np.eye(3)[true_N] + np.log(np.array(COUNTS) / 138)
    found = macro_f1_by_tau((0.0, 0.5, 1.0, 4.0), logits_NG, true_N, COUNTS)
    for tau, f1 in found.items():
        answers_N = np.argmax(logits_NG - tau * np.log(np.array(COUNTS) / 138), axis=1)
        assert f1 == pytest.approx(f1_score(true_N, answers_N, average="macro"))
    assert max(found, key=found.__getitem__) == 1.0
    # A genre that the split lacks is not averaged in.
    rest = true_N < 2
    assert macro_f1_by_tau((9.0,), logits_NG[rest], true_N[rest], (1, 1, 1))[9.0] == pytest.approx(
        f1_score(true_N[rest], logits_NG[rest].argmax(axis=1), labels=[0, 1], average="macro")
    )
