"""Experiment: the complete configuration, frozen and typed. To and from JSON, with any field set by its dotted name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import Field, JsonValue, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from mgc.audio.excerpts import ListeningPlan
from mgc.configuration import STRICT, JsonObject, to_json
from mgc.datasets.protocols import GivenSplits, ProtocolConfig, check_protocol
from mgc.errors import ConfigError, FeaturesError
from mgc.features.front_end import FrontEndConfig, clip_form
from mgc.features.normalization import ScalingConfig
from mgc.hearing.request import Hearing
from mgc.labeling.config import LabelingConfig
from mgc.models.architecture import ModelConfig, check_input, takes_any_frames
from mgc.schema import FeaturesFacts
from mgc.training.loop import TrainingConfig

FORMAT_VERSION: Final = 1
"""Version of experiment.json; a reader refuses a higher one."""

_KINDS: Final[dict[str, TypeAdapter[Any]]] = {
    "front_end": TypeAdapter(FrontEndConfig),
    "model": TypeAdapter(ModelConfig),
    "protocol": TypeAdapter(ProtocolConfig),
}
"""Groups that have several kinds."""


@dataclass(frozen=True, config=STRICT)
class Experiment:
    """Everything that determines a model, except the data.

    Attributes:
        recipe: name of the recipe that made it.
        front_end: conversion of a window of audio to clips of features.
        listening: choice of the seconds of a track to listen to.
        scaling: conversion of stored features to the network's input.
        model: network.
        training: configuration of the training.
        protocol: division of the rows into those that train, choose the epoch and are scored.
        labeling: choice of the recordings to label. Features are computed for all recordings that can be heard.
        deviations: points where the recipe differs from its paper, or fills in what the paper leaves open.
    """

    recipe: Annotated[str, Field(min_length=1)]
    front_end: FrontEndConfig
    listening: ListeningPlan
    model: ModelConfig
    training: TrainingConfig
    scaling: ScalingConfig = Field(default_factory=ScalingConfig)
    protocol: ProtocolConfig = GivenSplits()
    labeling: LabelingConfig = Field(default_factory=LabelingConfig)
    deviations: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        clips = clip_form(self.front_end)
        try:
            check_input(self.model, clips.shape)
            check_protocol(self.protocol)
        except ConfigError as error:
            # pydantic expects this error from a validator; from_json turns it into a ConfigError again.
            raise ValueError(str(error)) from None
        side = " x ".join(map(str, clips.shape))
        if self.training.augment.varies_pictures and len(clips.shape) != 2:
            raise ValueError(f"training.augment varies features of bins x frames, the front end gives {side} numbers")
        if self.training.augment.limit_band < 1 and clips.dtype != "uint8":
            # Of bins over frames, only pictures of levels are uint8; 0 is their floor.
            raise ValueError(
                f"training.augment.limit_band needs levels above a floor, as of log_mel or thumbnail; "
                f"{self.front_end.kind} has none"
            )
        if self.training.augment.crop_time < 1 and not takes_any_frames(self.model):
            raise ValueError(
                f"training.augment.crop_time needs a model that takes any number of frames, such as "
                f"house_cnn; {self.model.kind} does not"
            )
        if self.protocol.refit and self.training.select != "last":
            raise ValueError("protocol.refit leaves no validation to choose an epoch by; set training.select last")
        if self.protocol.refit and len(self.training.adjust_after) > 1:
            raise ValueError("protocol.refit leaves no validation to choose by; give training.adjust_after one value")
        if self.scaling.method == "bytes" and clips.dtype != "uint8":
            raise ValueError(f"scaling.method bytes is for uint8 features, but the front end gives {clips.dtype}")
        return self

    @property
    def hearing(self) -> Hearing:
        """What to hear of a recording to compute its features. A bundle hears less, see `mgc.bundle.Bundle.hearing`."""
        return Hearing(to_json(self.front_end), self.listening)

    def to_json(self) -> JsonObject:
        """Return JSON-ready values, with the version of the format."""
        return {"format_version": FORMAT_VERSION, **to_json(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, JsonValue], where: str = "experiment") -> Experiment:
        """Read an experiment from the values of `to_json`. Types are strict: neither "3" nor true is a number.

        Args:
            value: values of `to_json`; a missing field gets its default.
            where: file, for the message.

        Raises:
            ConfigError: a field is unknown or missing, or its value is wrong; the message names it.
        """
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: an experiment is a JSON object, this is a {type(value).__name__}.")
        fields = dict(value)
        version = fields.pop("format_version", FORMAT_VERSION)
        if type(version) is not int:
            raise ConfigError(f"{where}: format_version is {version!r}, not a whole number; correct the file.")
        if version > FORMAT_VERSION:
            raise ConfigError(f"{where}: format version {version}, this mgc reads up to {FORMAT_VERSION}; upgrade mgc.")
        try:
            return _validated(fields)
        except ValidationError as error:
            name, fault = _first_fault(error)
            raise ConfigError(f"{where}: {name + ': ' if name else ''}{fault}") from None

    def check_listening(self, facts: FeaturesFacts, where: str, way_out: str) -> None:
        """Refuse features that were heard by another listening plan. Features that state no plan pass.

        Args:
            facts: facts of the features.
            where: their place, for the message.
            way_out: what to do, for the message.

        Raises:
            FeaturesError: the plans differ; the message names the fields.
        """
        wanted, found = to_json(self.listening), facts.listening
        names = [name for name in wanted if found is not None and found.get(name) != wanted[name]]
        if found is not None and names:
            theirs, mine = (
                " ".join(f"--listening.{name} {plan.get(name)}" for name in names) for plan in (found, wanted)
            )
            raise FeaturesError(f"{where}: these features were heard with {theirs}, not {mine}; {way_out}.")

    def override(self, assignments: Mapping[str, str]) -> Experiment:
        """Return a variant with some fields set by dotted name, as on the command line.

        A value is read as JSON if it is JSON (`3`, `1e-3`, `true`, `null`, `[16, 32]`), otherwise as text. A list may
        omit its brackets (`16,32`), and `none`, `True` and similar words work too. A new `kind` starts from that kind's
        defaults, whatever the order of the assignments.

        Args:
            assignments: for example {"training.epochs": "3", "model.channels": "16,32", "front_end.kind": "thumbnail"}.

        Raises:
            ConfigError: an assignment is wrong; the message is one line with the field, its value and, for a misspelled
                name, the nearest one.
        """
        fields = to_json(self)
        # Set kinds first: they decide which other names exist.
        for name, text in sorted(assignments.items(), key=lambda item: not item[0].endswith(".kind")):
            place, leaf = _find(name, fields)
            value = _parse(text, place[leaf])
            if name.removesuffix(".kind") not in _KINDS:
                place[leaf] = value
            elif value != place["kind"]:
                fields[name.removesuffix(".kind")] = _defaults(name, value)
        try:
            return _validated(fields)
        except ValidationError as error:
            name, fault = _first_fault(error)
            raise ConfigError(f"option {name}: {fault}" if name else f"options: {fault}") from None

    def dotted(self) -> JsonObject:
        """Return every field by its dotted name, in order."""
        return _flatten(to_json(self))


_EXPERIMENT: Final = TypeAdapter(Experiment)


def _validated(fields: Mapping[str, JsonValue]) -> Experiment:
    # Validate as JSON, which lets a list become a tuple but converts nothing else.
    return _EXPERIMENT.validate_json(json.dumps(fields), strict=True)


def _find(name: str, fields: JsonObject) -> tuple[JsonObject, str]:
    """Return the group that contains a field, and the field's name in it."""
    *path, leaf = name.split(".")
    place: JsonValue = fields
    for key in path:
        place = place.get(key) if isinstance(place, dict) else None
    if not isinstance(place, dict) or leaf not in place:
        raise ConfigError(f"option {name}: there is no such field; {_nearest(name, fields)}")
    group = place[leaf]
    if isinstance(group, dict):
        names = ", ".join(f"{name}.{key}" for key in _flatten(group))
        raise ConfigError(f"option {name}: this is a group of fields; set one of {names}.")
    return place, leaf


def _defaults(name: str, kind: JsonValue) -> JsonObject:
    """Return the fields of a kind, each at its default."""
    try:
        group = to_json(_KINDS[name.removesuffix(".kind")].validate_python({"kind": kind}))
    except ValidationError as error:
        raise ConfigError(f"option {name}: {_first_fault(error)[1]}") from None
    return group


def _flatten(value: Mapping[str, JsonValue], prefix: str = "") -> JsonObject:
    flat: JsonObject = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flatten(item, f"{prefix}{key}.")
        else:
            flat[prefix + key] = item
    return flat


def _parse(text: str, current: JsonValue) -> JsonValue:
    """Return the value that a person meant, for a field whose present value is `current`."""
    if isinstance(current, list) and not text.lstrip().startswith("["):
        return [_value(part.strip()) for part in text.split(",")] if text.strip() else []
    value = _value(text)
    # Text stays text, even if it looks like a number.
    return text if isinstance(current, str) and not isinstance(value, str) else value


def _value(text: str) -> JsonValue:
    word = text.strip().lower()
    if word in ("true", "false", "null", "none"):
        return {"true": True, "false": False}.get(word)
    try:
        value: JsonValue = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value


def _nearest(name: str, fields: Mapping[str, JsonValue]) -> str:
    names = list(_flatten(fields))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    # People who do not know the group of a field type only its last part.
    near = near or [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]]
    return f"did you mean {near[0]}?" if near else "`--dry-run` prints every field."


def _first_fault(error: ValidationError) -> tuple[str, str]:
    """Return the dotted name of the first wrong field ("" for the whole experiment), and its fault."""
    fault = error.errors(include_url=False)[0]
    name = [str(part) for part in fault["loc"]]
    if len(name) > 1 and name[0] in _KINDS:
        # The location of a union includes the chosen kind; the field's dotted name does not.
        del name[1]
    context, found, message = fault.get("ctx", {}), fault["input"], fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "union_tag_invalid":
        name.append("kind")
        found, message = context["tag"], f"input should be one of {context['expected_tags']}"
    elif fault["type"] == "union_tag_not_found":
        name.append("kind")
        message = "field required"
    elif fault["type"] == "unexpected_keyword_argument":
        message = "there is no such field"
    message = message[:1].lower() + message[1:]
    shown = repr(found) if isinstance(found, str) else json.dumps(found)
    return ".".join(name), message if isinstance(found, dict) or len(shown) > 80 else f"{message} (got {shown})"
