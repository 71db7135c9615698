"""metrics.json: what a bundle of any version says is read, and written again as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

import mgc
from mgc.configuration import JsonObject
from mgc.metrics import DataFacts, MadeWith, TrainingFacts, metrics_from_json, metrics_to_json

SHIPPED = Path(mgc.__file__).parent / "default_bundle" / "metrics.json"

TRAINED: JsonObject = {
    "training_key": "0123456789ab",
    "history": [{"epoch": 1, "train_loss": 2.5}, {"epoch": 2, "train_loss": 2, "validation_macro_f1": 0.5}],
    "validation": {"epoch": 2, "train_loss": 2, "validation_macro_f1": 0.5},
    "data": {"features": "s3://b/f", "clips": {"train_clips": 160, "quarantined": 2}, "genre_clips": {"folk": 160}},
    "notices": [],
    "made_with": {"mgc": "0.1.0", "workers": 2, "accumulation": 1, "precision": None},
    "adjustment": {"tau": 0.5, "validation_macro_f1": {"0": 0.25, "0.5": 0.5}},
    "quarantined": {"truncated": 2},
    "search": {"key": "k", "trial": 3, "point": {"training.learning_rate": 0.01, "model.channels": [8, 16]}},
    "test": {"split": "test", "description": "d", "scores": {"accuracy": 0.5, "accuracy_low": 0.25}},
}


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(json.loads(SHIPPED.read_text()), id="shipped"),
        pytest.param(TRAINED, id="trained"),
        pytest.param({}, id="nothing"),
        pytest.param({"made_with": {}, "history": [], "data": {"sides": {}}}, id="empty"),
        pytest.param({"scores": {"accuracy": 0.5}, "data": {"licence": "CC"}, "made_with": {"gpus": 2}}, id="unknown"),
    ],
)
def test_it_is_written_as_it_was_read(values: JsonObject) -> None:
    assert metrics_to_json(*metrics_from_json(values)) == values


def test_what_it_says() -> None:
    training, evaluation = metrics_from_json(TRAINED)
    assert training.kept_epoch == 2
    assert training.made_with.workers == 2
    assert training.made_with.torch is None
    assert training.data.clips["quarantined"] == 2
    assert evaluation is not None
    assert evaluation.split == "test"
    assert not evaluation.leakage.checked
    shipped, tested = metrics_from_json(json.loads(SHIPPED.read_text()))
    assert shipped.kept_epoch is None
    assert [member.seed for member in shipped.members] == [11, 12, 15]
    assert tested is not None
    assert (tested.read_scores().tracks, tested.leakage.tracks, tested.leakage.checked) == (789, 789, True)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"made_with": {"workers": "many"}}, "made_with.workers: "),
        ({"history": [{"epoch": "last"}]}, "history.0.epoch"),
        ({"test": {"split": "test", "description": "d"}}, "test.scores: "),
        ({"test": []}, "test: "),
        ({"data": 3}, "data: "),
    ],
)
def test_a_field_of_another_type_is_named(values: JsonObject, field: str) -> None:
    with pytest.raises(ValueError, match="^" + field.replace(".", r"\.")):
        metrics_from_json(values)


def test_facts_are_frozen_and_a_copy_takes_only_known_fields() -> None:
    facts = TrainingFacts(made_with=MadeWith(workers=2))
    with pytest.raises(ValidationError):
        facts.training_key = "other"  # type: ignore[misc]
    more = facts.updated(data=DataFacts(protocol="given"))
    assert more.to_json() == {"made_with": {"workers": 2}, "data": {"protocol": "given"}}
    assert facts.to_json() == {"made_with": {"workers": 2}}
    with pytest.raises(TypeError, match="made_by"):
        facts.updated(made_by=MadeWith())
    with pytest.raises(ValueError, match="training_key"):
        facts.updated(training_key=3)
