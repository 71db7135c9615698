"""What is compared, and its table; that it trains is shown in tests/cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from mgc.bundle import Bundle, load_bundle
from mgc.errors import ConfigError
from mgc.evaluation.scores import score
from mgc.evaluation.shots import LIU_THRESHOLDS, ShotScore
from mgc.metrics import EvaluationFacts
from mgc.training.losses import LossKind
from mgc.training.sampling import Balance
from pipelines.training.balance import ModelScore, plan_experiments, render_markdown, tabulate
from pipelines.training.balance_methods import METHODS


def test_every_method_can_be_trained_and_no_two_are_the_same() -> None:
    made = plan_experiments("house-thumbnail", list(METHODS), [3, 4], {"training.epochs": "2"})
    assert list(made) == [(method, seed) for seed in (3, 4) for method in METHODS]
    configurations = [experiment.training for experiment in made.values()]
    assert len({repr(each) for each in configurations}) == len(made)
    assert {each.epochs for each in configurations} == {2}
    assert all(experiment.training.seed == seed for (_, seed), experiment in made.items())


def test_all_that_can_be_chosen_is_compared() -> None:
    trained = [experiment.training for experiment in plan_experiments("house", list(METHODS), [0], {}).values()]
    assert {each.balance for each in trained} == set(get_args(Balance))
    assert {each.loss.kind for each in trained} == set(get_args(LossKind))
    assert any(each.loss.beta for each in trained)
    assert any(each.head_epochs for each in trained)
    assert any(each.adjust_after for each in trained)


def test_methods_change_nothing_but_the_balance() -> None:
    plain = plan_experiments("house", ["natural"], [0], {})["natural", 0]
    for experiment in plan_experiments("house", list(METHODS), [0], {}).values():
        same = {"balance": "natural", "loss": plain.training.loss, "head_epochs": 0, "adjust_after": ()}
        assert replace(experiment, training=replace(experiment.training, **same)) == plain


def test_what_cannot_be_compared_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"magic.*\bnatural\b"):
        plan_experiments("house", ["natural", "magic"], [0], {})
    with pytest.raises(ConfigError, match=r"training\.balance.*\bnatural\b"):
        plan_experiments("house", ["natural"], [0], {"training.balance": "square_root"})


def scored() -> Bundle:
    bundle = load_bundle()
    genres = bundle.taxonomy.names
    # Two tracks a genre, both answered as the first genre, but for the last one's.
    true = np.repeat(np.arange(8), 2)
    answers = np.where(true == 7, 7, 0)
    scores = score(true, np.eye(8)[answers], genres)
    return replace(bundle, evaluation=EvaluationFacts(split="test", description="made up", scores=scores.to_json()))


def test_a_row_has_the_scores_by_shots() -> None:
    bundle = scored()
    counts = dict(zip(bundle.taxonomy.names, (800, 400, 150, 101, 60, 30, 20, 8), strict=True))
    row = tabulate(bundle, "natural", 5, counts, None)
    assert (row.method, row.seed, row.split, row.tracks) == ("natural", 5, "test", 16)
    assert row.accuracy == pytest.approx(4 / 16)
    assert (row.shares["many"], row.shares["medium"], row.shares["few"]) == pytest.approx((1 / 3, 0.0, 0.5))
    assert row.bundle_id == bundle.id
    assert [group.genres for group in row.shots] == [bundle.taxonomy.names[at : at + 3] for at in (0, 3, 6)]
    assert tabulate(bundle, "natural", 5, counts, LIU_THRESHOLDS).shares["few"] == 1.0
    with pytest.raises(ConfigError, match="score"):
        tabulate(replace(bundle, evaluation=None), "natural", 5, counts, None)


def test_the_table() -> None:
    shares = {"many": 0.25, "medium": 0.5, "few": None}
    shots = tuple(ShotScore(group, (), (), 0, share) for group, share in shares.items())
    rows = [
        ModelScore(method, seed, "test", 8, accuracy, 0.5, shots, "id")
        for method, seed, accuracy in (("natural", 0, 0.4), ("focal", 0, 0.5), ("natural", 1, 0.6))
    ]
    assert rows[0].to_json()["few"] is None
    assert render_markdown(rows).splitlines() == [
        "| method | seed | accuracy | macro_f1 | many | medium | few |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| natural | 0 | 0.400 | 0.500 | 0.250 | 0.500 | - |",
        "| natural | 1 | 0.600 | 0.500 | 0.250 | 0.500 | - |",
        "| natural | mean of 2 ± deviation | 0.500 ± 0.141 | 0.500 ± 0.000 | 0.250 ± 0.000 | 0.500 ± 0.000 | - |",
        "| focal | 0 | 0.500 | 0.500 | 0.250 | 0.500 | - |",
    ]
