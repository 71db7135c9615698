"""The common base of mgc's configurations: frozen, typed, checked when created, without unknown fields.

A configuration is a frozen pydantic dataclass, `@dataclass(frozen=True, config=STRICT)`. A wrong value is refused as
soon as it is set, and `dataclasses.replace` makes a checked variant.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError

from mgc.errors import ConfigError

T = TypeVar("T")

JsonObject = dict[str, JsonValue]
"""A JSON object in Python."""

STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Settings of every configuration: unknown fields are errors, and so are non-finite numbers, which JSON lacks."""


def to_json(configuration: object) -> JsonObject:
    """Return JSON-ready values of a configuration: tuples become lists, groups dicts, enumerations their values."""
    values: JsonObject = TypeAdapter(type(configuration)).dump_python(configuration, mode="json")
    return values


def what_differs(configuration: object) -> object:
    """Return JSON-ready values of a configuration without fields at their default; `kind` is always included.

    This keeps hashes stable when a later mgc adds a field whose default is the old behaviour.
    """
    if isinstance(configuration, tuple):
        return [what_differs(item) for item in configuration]
    if not dataclasses.is_dataclass(configuration) or isinstance(configuration, type):
        return configuration
    values = {field.name: getattr(configuration, field.name) for field in dataclasses.fields(configuration)}
    plain = {field.name: field.default for field in dataclasses.fields(configuration)}
    return {name: what_differs(value) for name, value in values.items() if name == "kind" or value != plain[name]}


def read_fields(kind: type[T], values: Mapping[str, str], what: str) -> T:
    """Return a configuration with some fields set by name, as on a command line; the others keep their defaults.

    Args:
        kind: class of the configuration.
        values: field → value as text.
        what: word for a field, for messages.

    Raises:
        ConfigError: there is no such field, or the value is out of range.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise ConfigError(f"there is no {what} {name!r}; the {what}s are {', '.join(names)}.")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, fault = str(first["loc"][-1]), first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(f"{what} {name}: {values[name]!r} does not fit: {fault}.") from None


def configure(kind: type[T], what: str, **values: object) -> T:
    """Return a configuration with these values.

    Args:
        kind: class of the configuration.
        what: word for it, for messages.
        values: values by field.

    Raises:
        ConfigError: a value is out of range, or some do not go together.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, fault = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        where = f"{what}: {name}: {first['input']!r} does not fit: " if name else f"{what}: "
        raise ConfigError(f"{where}{fault[:1].lower()}{fault[1:]}.") from None


def short_hash(value: object) -> str:
    """Return twelve hexadecimal digits of the SHA-256 of JSON-ready values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]
