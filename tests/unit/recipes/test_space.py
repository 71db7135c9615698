"""Spaces: to JSON and back, every point an experiment, and one line for each that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.errors import ConfigError
from mgc.recipes.catalogue import find
from mgc.recipes.space import (
    Alternatives,
    AnyDimension,
    Choice,
    Integer,
    LogUniform,
    Space,
    Uniform,
    shown,
)

FIELDS = ("training.learning_rate", "training.epochs", "model.channels", "training.augment.gain", "model.dropout")

words = st.text(st.characters(categories=("L", "N"), max_codepoint=0x2FF), min_size=1, max_size=8)
numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: number + 0.0)
json_values = st.one_of(words, numbers, st.booleans(), st.integers(-99, 99), st.lists(st.integers(1, 9), max_size=3))


def _ends(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted)


dimensions: st.SearchStrategy[AnyDimension] = st.one_of(
    st.lists(json_values, min_size=1, max_size=4, unique_by=json.dumps).map(lambda values: Choice(tuple(values))),
    _ends(numbers).map(lambda ends: Uniform(*ends)),
    _ends(st.floats(1e-9, 1e6)).map(lambda ends: LogUniform(*ends)),
    _ends(st.integers(-1000, 1000)).map(lambda ends: Integer(*ends)),
)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    names = draw(st.lists(st.sampled_from(FIELDS), unique=True, min_size=1))
    found: dict[str, AnyDimension] = {name: draw(dimensions) for name in names}
    if draw(st.booleans()):
        options = st.dictionaries(
            words, st.dictionaries(st.just("training.balance"), json_values), min_size=1, max_size=3
        )
        found[draw(words)] = Alternatives(draw(options))
    return Space(found)


@given(spaces())
def test_json_and_back_is_the_same_space(space: Space) -> None:
    text = json.dumps(space.to_json())
    assert Space.from_json(json.loads(text)) == space
    assert list(json.loads(text)) == list(space.dimensions)


@given(spaces())
def test_a_finite_space_has_as_many_points_as_it_says(space: Space) -> None:
    if space.size is None:
        with pytest.raises(ConfigError, match="a grid tries every point"):
            next(space.points())
    elif space.size <= 2000:
        points = [json.dumps(point) for point in space.points()]
        assert len(points) == len(set(points)) == space.size


def test_a_point_sets_fields_and_alternatives_set_several() -> None:
    space = Space(
        {
            "model.channels": Choice(([4, 8], [16])),
            "rare": Alternatives(
                {
                    "drawn": {"training.balance": "class_balanced"},
                    "weighed": {"training.balance": "natural", "training.loss.kind": "balanced_softmax"},
                }
            ),
        }
    )
    experiment = find("house-thumbnail").build()
    space.check(experiment)
    found = space.apply(experiment, {"model.channels": [4, 8], "rare": "weighed"})
    assert found.dotted() == experiment.dotted() | {
        "model.channels": [4, 8],
        "training.balance": "natural",
        "training.loss.kind": "balanced_softmax",
    }
    assert space.fields == {"model.channels", "training.balance", "training.loss.kind"}
    assert shown({"model.channels": [4, 8], "training.learning_rate": 0.00123456}) == (
        "channels [4, 8], learning_rate 0.001235"
    )


RATE = "training.learning_rate"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([], "s.json: a space is an object of dimensions by name, this is a list."),
        ({}, "s.json: a space needs at least one dimension."),
        ({RATE: {"values": [1]}}, f"s.json: {RATE}: it has no kind: choice, alternatives,"),
        ({RATE: {"kind": "unform"}}, f"s.json: {RATE}: kind is one of 'choice',"),
        ({RATE: {"kind": "uniform", "low": 0.1}}, f"s.json: {RATE}.high: field required"),
        ({RATE: {"kind": "uniform", "low": 0.1, "high": "1"}}, f"s.json: {RATE}.high: input should be a valid number"),
        ({RATE: {"kind": "uniform", "low": 2.0, "high": 1.0}}, f"s.json: {RATE}: low (2.0) must be below high"),
        ({RATE: {"kind": "uniform", "low": 1.0, "high": 2.0, "q": 1}}, f"s.json: {RATE}.q: there is no such entry"),
        ({RATE: {"kind": "log_uniform", "low": 0.0, "high": 1.0}}, f"s.json: {RATE}.low: input should be greater"),
        ({RATE: {"kind": "choice", "values": [1, 2, 1]}}, f"s.json: {RATE}: a value is named twice."),
        (
            {RATE: {"kind": "alternatives", "options": {"a": {}}}},
            "s.json: training.learning_rate: a dimension of kind alternatives is named by",
        ),
        (
            {"lr": {"kind": "choice", "values": [1]}},
            "s.json: lr: a dimension of kind choice is named by a field's dotted name.",
        ),
        (
            {"front_end.n_mels": {"kind": "choice", "values": [64]}},
            "s.json: front_end.n_mels: only fields of model and training can be searched",
        ),
        (
            {RATE: {"kind": "choice", "values": [1]}, "a": {"kind": "alternatives", "options": {"b": {RATE: 2}}}},
            f"s.json: {RATE}: this field is in two dimensions",
        ),
    ],
)
def test_what_is_no_space_is_refused_in_one_line(value: Any, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Space.from_json(value, "s.json")
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("dimensions", "line"),
    [
        (
            {"training.learningrate": Choice((1.0,))},
            "space: training.learningrate: there is no such field; did you mean training.learning_rate? "
            "(recipe house-thumbnail).",
        ),
        (
            {RATE: Choice((0.1, "much"))},
            f"space: {RATE}: input should be a valid number (got 'much') (recipe house-thumbnail).",
        ),
        (
            {RATE: LogUniform(0.1, 100.0)},
            f"space: {RATE}: input should be less than or equal to 10 (got 100.0) (recipe house-thumbnail).",
        ),
        ({"model.hidden": Choice(([4],))}, "space: model.hidden: there is no such field; `--dry-run` prints"),
        (
            {
                "training.balance": Choice(("natural", "class_balanced")),
                "training.loss.kind": Choice(("cross_entropy", "balanced_softmax")),
            },
            "space: training: balance class_balanced and loss.kind balanced_softmax each make up for rare genres",
        ),
    ],
)
def test_what_a_recipe_does_not_take_is_refused_in_one_line(dimensions: dict[str, AnyDimension], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Space(dimensions).check(find("house-thumbnail").build())
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_what_does_not_go_together_is_found_in_a_space_without_end_too() -> None:
    space = Space(
        {
            "training.weight_decay": Uniform(0.0, 0.1),
            "training.balance": Choice(("natural", "class_balanced")),
            "training.loss.kind": Choice(("cross_entropy", "balanced_softmax")),
        }
    )
    with pytest.raises(ConfigError, match=r"put what only works together into one dimension of kind alternatives\.$"):
        space.check(find("house-thumbnail").build())
