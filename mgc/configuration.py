"""What every configuration of mgc has in common: frozen, typed, checked at birth, no unknown field.

A configuration is a frozen pydantic dataclass, `@dataclass(frozen=True, config=STRICT)`, so that a wrong value is
refused where it is written down and `dataclasses.replace` makes a checked variant.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter

STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Unknown fields are errors, and so are numbers that are not finite: JSON has none."""


def to_json(configuration: Any) -> Any:
    """JSON-ready values of a configuration: tuples become lists, groups dicts, enumerations their values."""
    return TypeAdapter(type(configuration)).dump_python(configuration, mode="json")


def what_differs(configuration: Any) -> Any:
    """JSON-ready values of a configuration without the fields that have their default; `kind` is always there.

    For hashes that must not change when a later mgc adds a field, whose default is what was done before.
    """
    if isinstance(configuration, tuple):
        return [what_differs(item) for item in configuration]
    if not dataclasses.is_dataclass(configuration):
        return configuration
    values = {field.name: getattr(configuration, field.name) for field in dataclasses.fields(configuration)}
    plain = {field.name: field.default for field in dataclasses.fields(configuration)}
    return {name: what_differs(value) for name, value in values.items() if name == "kind" or value != plain[name]}


def short_hash(value: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of JSON-ready values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]
