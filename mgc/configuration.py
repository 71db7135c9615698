"""What every configuration of mgc has in common: frozen, typed, checked at birth, no unknown field.

A configuration is a frozen pydantic dataclass, `@dataclass(frozen=True, config=STRICT)`, so that a wrong value is
refused where it is written down and `dataclasses.replace` makes a checked variant.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Final

from pydantic import ConfigDict, JsonValue, TypeAdapter

JsonObject = dict[str, JsonValue]
"""What a JSON object becomes in Python."""

STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Unknown fields are errors, and so are numbers that are not finite: JSON has none."""


def to_json(configuration: object) -> JsonObject:
    """JSON-ready values of a configuration: tuples become lists, groups dicts, enumerations their values."""
    values: JsonObject = TypeAdapter(type(configuration)).dump_python(configuration, mode="json")
    return values


def what_differs(configuration: object) -> object:
    """JSON-ready values of a configuration without the fields that have their default; `kind` is always there.

    For hashes that must not change when a later mgc adds a field, whose default is what was done before.
    """
    if isinstance(configuration, tuple):
        return [what_differs(item) for item in configuration]
    if not dataclasses.is_dataclass(configuration) or isinstance(configuration, type):
        return configuration
    values = {field.name: getattr(configuration, field.name) for field in dataclasses.fields(configuration)}
    plain = {field.name: field.default for field in dataclasses.fields(configuration)}
    return {name: what_differs(value) for name, value in values.items() if name == "kind" or value != plain[name]}


def short_hash(value: object) -> str:
    """Twelve hexadecimal digits of the SHA-256 of JSON-ready values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]
