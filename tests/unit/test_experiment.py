from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from mgc.audio.excerpts import ListeningPlan
from mgc.datasets.protocols import PAPER_D, ByGroup, GivenSplits
from mgc.errors import ConfigError
from mgc.experiment import Experiment
from mgc.features.mel import LogMelConfig
from mgc.features.normalization import ScalingConfig
from mgc.features.thumbnail import ThumbnailConfig
from mgc.models.convolutional import ConvolutionalConfig
from mgc.models.house import HouseCnnConfig
from mgc.training.augment import AugmentConfig
from mgc.training.loop import TrainingConfig
from mgc.training.losses import LossConfig

EXPERIMENT = Experiment(
    recipe="test",
    front_end=LogMelConfig(),
    listening=ListeningPlan(),
    model=HouseCnnConfig(channels=(8, 16)),
    training=TrainingConfig(epochs=5, augment=AugmentConfig(roll_time=True)),
    deviations=("one, with a comma", "two"),
)

KINDS = (
    "'house_cnn', 'convolutional', 'dense', 'recurrent', 'statistics', 'mobilenet', 'musicnn', 'guess', 'probe', "
    "'ensemble'"
)


def test_json_and_back() -> None:
    text = json.dumps(EXPERIMENT.to_json())
    assert json.loads(text)["format_version"] == 1
    assert Experiment.from_json(json.loads(text)) == EXPERIMENT


def test_a_field_that_json_lacks_has_its_default() -> None:
    value = EXPERIMENT.to_json()
    del value["training"]["patience"], value["deviations"], value["format_version"], value["scaling"]
    assert Experiment.from_json(value) == replace(EXPERIMENT, deviations=())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("training.epochs", "3", 3),
        ("training.learning_rate", "1e-3", 1e-3),
        ("training.learning_rate", "1", 1.0),
        ("training.balance", "natural", "natural"),
        ("training.balance", '"natural"', "natural"),
        ("training.loss.kind", "focal", "focal"),
        ("training.loss.beta", "0", 0.0),
        ("training.head_epochs", "10", 10),
        ("training.adjust_after", "0", [0.0]),
        ("training.adjust_after", "", []),
        ("training.augment.roll_time", "false", False),
        ("training.augment.roll_time", "False", False),
        ("training.augment.roll_time", " TRUE ", True),
        ("front_end.f_max_hz", "8000", 8000.0),
        ("front_end.f_max_hz", "null", None),
        ("front_end.f_max_hz", "None", None),
        ("front_end.kind", "log_mel", "log_mel"),
        ("model.channels", "16,32", [16, 32]),
        ("model.channels", "[16, 32]", [16, 32]),
        ("model.channels", "16", [16]),
        ("deviations", '["a, b", "3"]', ["a, b", "3"]),
        ("deviations", "a b, c", ["a b", "c"]),
        ("deviations", "", []),
        ("recipe", "3", "3"),
        ("recipe", "null", "null"),
        ("scaling.method", "min_max", "min_max"),
        ("scaling.unit_length", "true", True),
        ("labeling.min_seconds", "3", 3.0),
    ],
)
def test_a_field_is_set_by_its_dotted_name(name: str, text: str, value: Any) -> None:
    changed = EXPERIMENT.override({name: text}).dotted()
    assert changed == EXPERIMENT.dotted() | {name: value}
    assert type(changed[name]) is type(value)


def test_no_assignment_changes_nothing() -> None:
    assert EXPERIMENT.override({}) == EXPERIMENT


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("training.epochs", "three", "option training.epochs: input should be a valid integer (got 'three')"),
        ("training.epochs", "3.5", "option training.epochs: input should be a valid integer (got 3.5)"),
        ("training.epochs", "true", "option training.epochs: input should be a valid integer (got true)"),
        ("training.epochs", '"3"', "option training.epochs: input should be a valid integer (got '3')"),
        ("training.epochs", "none", "option training.epochs: input should be a valid integer (got null)"),
        ("training.epochs", "0", "option training.epochs: input should be greater than or equal to 1 (got 0)"),
        ("training.epochs", "3\n4", "option training.epochs: input should be a valid integer (got '3\\n4')"),
        (
            "training.balance",
            "naturall",
            "option training.balance: input should be 'natural', 'class_balanced', 'square_root', 'repeat_factor' or "
            "'progressive' (got 'naturall')",
        ),
        (
            "training.loss.kind",
            "hinge",
            "option training.loss.kind: input should be 'cross_entropy', 'focal', 'balanced_softmax' or "
            "'logit_adjusted' (got 'hinge')",
        ),
        (
            "training.loss.kind",
            "balanced_softmax",
            "option training: balance class_balanced and loss.kind balanced_softmax each make up for rare genres by "
            "themselves and correct twice together; keep one (and balance natural beside it)",
        ),
        (
            "training.adjust_after",
            "1,-1",
            "option training.adjust_after.1: input should be greater than or equal to 0 (got -1)",
        ),
        (
            "training.augment.roll_time",
            "maybe",
            "option training.augment.roll_time: input should be a valid boolean (got 'maybe')",
        ),
        (
            "training.augment.roll_time",
            "1",
            "option training.augment.roll_time: input should be a valid boolean (got 1)",
        ),
        ("training.learning_rate", "NaN", "option training.learning_rate: input should be a finite number (got NaN)"),
        (
            "training.gradient_clip",
            "Infinity",
            "option training.gradient_clip: input should be a finite number (got Infinity)",
        ),
        ("model.channels", "16,x", "option model.channels.1: input should be a valid integer (got 'x')"),
        ("model.channels", "16,0", "option model.channels.1: input should be greater than or equal to 1 (got 0)"),
        ("front_end.frames", "999", "option front_end: frames 999: a clip of 3 s has only 130"),
        ("training.epoch", "3", "option training.epoch: there is no such field; did you mean training.epochs?"),
        ("epochs", "3", "option epochs: there is no such field; did you mean training.epochs?"),
        ("training.epochs.x", "3", "option training.epochs.x: there is no such field; did you mean training.epochs?"),
        ("bogus", "3", "option bogus: there is no such field; `--dry-run` prints every field."),
        ("", "3", "option : there is no such field; `--dry-run` prints every field."),
        (
            "listening",
            "3",
            "option listening: this is a group of fields; set one of listening.window_seconds, "
            "listening.windows, listening.where, listening.seed.",
        ),
        (
            "front_end.kind",
            "thumbnial",
            "option front_end.kind: input should be one of 'log_mel', 'thumbnail', 'mfcc', 'mfcc_statistics', "
            "'mel_mfcc', 'mel_image', 'mel_means', 'handcrafted', 'lpcc', 'kaldi_mel', "
            "'compressed_mel' (got 'thumbnial')",
        ),
        (
            "model.kind",
            "obeirne",
            f"option model.kind: input should be one of {KINDS} (got 'obeirne')",
        ),
        ("model.filters", "1,2", "option model.filters: there is no such field; `--dry-run` prints every field."),
    ],
)
def test_a_wrong_name_or_value_gets_one_clear_line(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        EXPERIMENT.override({name: text})
    assert str(raised.value) == message


def test_another_kind_starts_from_its_defaults_in_any_order() -> None:
    assignments = {"front_end.columns": "64", "model.filters": "4,4,8,8", "front_end.kind": "thumbnail"}
    changed = EXPERIMENT.override({**assignments, "model.kind": "convolutional"})
    model = ConvolutionalConfig(filters=(4, 4, 8, 8))
    wanted = replace(EXPERIMENT, front_end=ThumbnailConfig(columns=64), model=model)
    assert changed == wanted
    with pytest.raises(ConfigError, match=r"model\.channels: there is no such field"):
        EXPERIMENT.override({"model.kind": "convolutional", "model.channels": "8"})


def test_a_loss_keeps_its_other_fields_when_its_kind_is_set() -> None:
    """It is one group with a kind in it, no group of several kinds."""
    assignments = {"training.loss.tau": "0.5", "training.loss.kind": "logit_adjusted", "training.balance": "natural"}
    changed = EXPERIMENT.override(assignments).training
    assert changed == replace(EXPERIMENT.training, balance="natural", loss=LossConfig(kind="logit_adjusted", tau=0.5))


def test_the_same_kind_keeps_what_was_set() -> None:
    assert EXPERIMENT.override({"model.kind": "house_cnn"}) == EXPERIMENT


def test_fields_that_fit_only_together_are_checked_together() -> None:
    changed = EXPERIMENT.override({"front_end.frames": "60", "front_end.clip_seconds": "1.5"})
    assert changed.front_end == LogMelConfig(frames=60, clip_seconds=1.5)


def test_a_front_end_too_small_for_the_model_is_refused_at_birth() -> None:
    message = "model convolutional needs at least 4 bins and 4 frames, but the front end gives 128 bins and 3 frames"
    with pytest.raises(ValidationError, match=message):
        replace(EXPERIMENT, model=ConvolutionalConfig(), front_end=LogMelConfig(frames=3))
    with pytest.raises(ConfigError, match=f"options: {message}"):
        EXPERIMENT.override({"model.kind": "convolutional", "front_end.frames": "3"})
    # Only the whole has to fit: the new model with the new front end.
    replace(EXPERIMENT, model=ConvolutionalConfig()).override({"model.kind": "house_cnn", "front_end.frames": "3"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "x.json: an experiment is a JSON object, this is a list."),
        ({"format_version": 2, "new": 1}, "x.json: format version 2, this mgc reads up to 1; upgrade mgc."),
        ({"format_version": "1"}, "x.json: format_version is '1', not a whole number; "),
        ({"bogus": 1}, "x.json: bogus: there is no such field (got 1)"),
        ({"model": 3}, "x.json: model: input should be an object (got 3)"),
        ({"model": {"channels": [8]}}, "x.json: model.kind: field required"),
        (
            {"model": {"kind": "cnn"}},
            f"x.json: model.kind: input should be one of {KINDS} (got 'cnn')",
        ),
        ({"model": {"kind": "house_cnn", "chanels": [8]}}, "x.json: model.chanels: there is no such field"),
        ({"training": {"epochs": "3"}}, "x.json: training.epochs: input should be a valid integer (got '3')"),
        ({"training": {"augment": {"mixup": -1}}}, "x.json: training.augment.mixup: input should be greater than or"),
        ({"recipe": ""}, "x.json: recipe: string should have at least 1 character (got '')"),
    ],
)
def test_json_that_is_no_experiment_is_refused_in_one_line(change: Any, message: str) -> None:
    value = EXPERIMENT.to_json() | change if isinstance(change, dict) else change
    with pytest.raises(ConfigError) as raised:
        Experiment.from_json(value, "x.json")
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_missing_group_is_named() -> None:
    value = EXPERIMENT.to_json()
    del value["training"]
    with pytest.raises(ConfigError, match=r"^experiment: training: field required$"):
        Experiment.from_json(value)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            {"front_end.kind": "mel_means", "model.kind": "dense"},
            "options: training.augment varies features of bins x frames, the front end gives 128 numbers",
        ),
        (
            {"front_end.kind": "mfcc", "scaling.method": "bytes"},
            "options: scaling.method bytes is for uint8 features, but the front end gives float16",
        ),
        (
            {"front_end.kind": "mfcc", "training.augment.limit_band": "0.5"},
            "options: training.augment.limit_band needs levels above a floor, as of log_mel or thumbnail; "
            "mfcc has none",
        ),
        (
            {"training.augment.crop_time": "0.5", "model.kind": "convolutional"},
            "options: training.augment.crop_time needs a model that takes any number of frames, such as "
            "house_cnn; convolutional does not",
        ),
        (
            {"protocol.refit": "true"},
            "options: protocol.refit leaves no validation to choose an epoch by; set training.select last",
        ),
        (
            {
                "protocol.refit": "true",
                "training.select": "last",
                "training.adjust_after": "0.5,1",
                "training.balance": "natural",
            },
            "options: protocol.refit leaves no validation to choose by; give training.adjust_after one value",
        ),
        (
            {"scaling.method": "maximum"},
            "option scaling.method: input should be 'standardized', 'min_max' or 'bytes' (got 'maximum')",
        ),
    ],
)
def test_fields_of_several_groups_fit_each_other(assignments: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        EXPERIMENT.override(assignments)
    assert str(raised.value) == message
    assert replace(EXPERIMENT, scaling=ScalingConfig(method="bytes")).scaling.method == "bytes"


def test_a_protocol_is_set_by_its_dotted_name() -> None:
    assert EXPERIMENT.protocol == GivenSplits()
    changed = EXPERIMENT.override({"protocol.folds": "5", "protocol.fold": "2", "protocol.kind": "artist"})
    assert changed.protocol == ByGroup(kind="artist", folds=5, fold=2)
    # Another kind starts anew: a leak that was asked for is not asked for any more.
    leaky = replace(EXPERIMENT, protocol=PAPER_D)
    assert leaky.override({"protocol.kind": "artist"}).protocol == ByGroup(kind="artist")
    assert leaky.override({"protocol.seed": "3"}).protocol == replace(PAPER_D, seed=3)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ({"protocol.kind": "clip_random"}, "protocol.kind clip_random puts clips of one track on both sides; ask for"),
        ({"protocol.kind": "clip_random", "protocol.leak": "artist"}, "--protocol.leak track"),
        ({"protocol.kind": "artist", "protocol.folds": "5", "protocol.fold": "5"}, "option protocol: fold 5 of 5"),
        ({"protocol.test_share": "0.1"}, "option protocol.test_share: there is no such field"),
        ({"protocol.kind": "random"}, "'given', 'clip_random', 'track', 'artist' (got 'random')"),
        ({"protocol.leak": "everything"}, "option protocol.leak: input should be 'none', 'artist' or 'track'"),
    ],
)
def test_a_protocol_that_cannot_be_gets_one_clear_line(assignments: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        EXPERIMENT.override(assignments)
    assert message in str(raised.value)
