"""Experiment: the one composed, frozen, typed configuration, to and from JSON, with any field set by its dotted name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mgc.audio.excerpts import ListeningPlan
from mgc.configuration import STRICT, to_json
from mgc.errors import ConfigError
from mgc.features.front_end import FrontEndConfig
from mgc.models.architecture import ModelConfig
from mgc.training.loop import TrainingConfig

FORMAT_VERSION: Final = 1
"""Version of experiment.json; a reader refuses a higher one."""


@dataclass(frozen=True, config=STRICT)
class Experiment:
    """Everything that determines a model but the data.

    Attributes:
        recipe: name of the recipe that made it.
        front_end: from a listened window to clips of features.
        listening: which seconds of a track are heard.
        model: the network.
        training: how it is trained.
        deviations: where the recipe departs from its paper, or fills in what the paper leaves open.
    """

    recipe: Annotated[str, Field(min_length=1)]
    front_end: FrontEndConfig
    listening: ListeningPlan
    model: ModelConfig
    training: TrainingConfig
    deviations: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values with the format's version."""
        return {"format_version": FORMAT_VERSION, **to_json(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "experiment") -> Experiment:
        """Inverse of `to_json`.

        Raises:
            ConfigError: a field is unknown, missing, or of a wrong value; the message names it.
        """
        fields = dict(value)
        version = fields.pop("format_version", FORMAT_VERSION)
        if version > FORMAT_VERSION:
            raise ConfigError(f"{where}: format version {version}, this mgc reads up to {FORMAT_VERSION}; upgrade mgc.")
        try:
            return TypeAdapter(cls).validate_python(fields)
        except ValidationError as error:
            raise ConfigError(f"{where}: {_first_fault(error, fields)}") from None

    def override(self, assignments: Mapping[str, str]) -> Experiment:
        """A variant with some fields set by dotted name, as the command line gives them.

        Args:
            assignments: for example {"training.epochs": "3", "model.channels": "[16, 32]", "front_end.kind": "thumbnail"}.
                A value is read as JSON where it is JSON, else as text. Another `kind` starts from that kind's defaults.

        Raises:
            ConfigError: one line naming the field, its value and, for a misspelled name, the nearest one.
        """
        fields = to_json(self)
        # Kinds first: they decide which names exist beside them.
        for name, text in sorted(assignments.items(), key=lambda item: not item[0].endswith(".kind")):
            *path, leaf = name.split(".")
            place: Any = fields
            for step, key in enumerate(path):
                if not isinstance(place, dict) or not isinstance(place.get(key), dict):
                    raise ConfigError(_unknown(".".join(path[: step + 1]), fields))
                place = place[key]
            if leaf not in place:
                raise ConfigError(_unknown(name, fields))
            if isinstance(place[leaf], dict):
                raise ConfigError(f"{name} is a group of fields ({', '.join(place[leaf])}); set one of them.")
            if leaf == "kind" and place["kind"] != text:
                place.clear()
                place["kind"] = text
                # Fill in the defaults of the new kind, so that the names after it are known.
                fields = to_json(Experiment.from_json(fields, "--" + name))
            else:
                place[leaf] = _parse(text, place[leaf])
        return Experiment.from_json(fields, "option")

    def dotted(self) -> dict[str, Any]:
        """Every field by its dotted name, in order."""
        return _flatten(to_json(self))






def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flatten(item, f"{prefix}{key}.")
        else:
            flat[prefix + key] = item
    return flat


def _parse(text: str, current: Any) -> Any:
    if isinstance(current, list) and not text.lstrip().startswith("["):
        text = f"[{text}]"
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _unknown(name: str, fields: Mapping[str, Any]) -> str:
    names = list(_flatten(fields))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`--dry-run` prints every field."
    return f"there is no field {name}; {hint}"


def _first_fault(error: ValidationError, fields: Mapping[str, Any]) -> str:
    fault = error.errors(include_url=False)[0]
    name: list[str] = []
    place: Any = fields
    for part in fault["loc"]:
        # The location of a union names the kind taken; the field's dotted name does not.
        if isinstance(place, Mapping) and part == place.get("kind") and part not in place:
            continue
        name.append(str(part))
        place = place.get(part) if isinstance(place, Mapping) else None
    message = fault["msg"][0].lower() + fault["msg"][1:]
    shown = fault["input"]
    got = f" (got {shown!r})" if isinstance(shown, str | int | float | bool | list) else ""
    return f"{'.'.join(name)}: {message}{got}"
