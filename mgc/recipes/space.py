"""Search space of a recipe: ranges and choices for fields of its Experiment, by their dotted names.

A space is plain data, so it can be kept with its recipe or in a file. It does not depend on the search method.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, JsonValue, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT, JsonObject
from mgc.errors import ConfigError
from mgc.experiment import Experiment

Point = Mapping[str, JsonValue]
"""JSON-ready values by the names of their dimensions; for `Alternatives`, the option's name."""

SEARCHED: Final = ("model.", "training.")
"""Groups whose fields may be searched. Features, sides and scaling must be the same for all trials; otherwise their
scores could not be compared."""

LARGEST_WHOLE_CHECK: Final = 1000
"""Largest finite space of which every point is checked before the search; of larger ones only some points are."""

_DRAWS: Final = 32


@dataclass(frozen=True, config=STRICT)
class Choice:
    """One of several values of a field.

    Attributes:
        values: values of the field, in a sensible order: population-based training steps from one to the next.
    """

    values: Annotated[tuple[JsonValue, ...], Field(min_length=1)]
    kind: Literal["choice"] = "choice"

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len({json.dumps(value, sort_keys=True) for value in self.values}) < len(self.values):
            raise ValueError("a value is named twice")
        return self


@dataclass(frozen=True, config=STRICT)
class Alternatives:
    """One of several settings of fields that belong together, such as a sampling with the loss that fits it.

    The name of the dimension can be any word without a dot.

    Attributes:
        options: option name → values of fields by dotted name.
    """

    options: Annotated[Mapping[str, Mapping[str, JsonValue]], Field(min_length=1)]
    kind: Literal["alternatives"] = "alternatives"


@dataclass(frozen=True, config=STRICT)
class Uniform:
    """Any number from `low` to `high`."""

    low: float
    high: float
    kind: Literal["uniform"] = "uniform"

    @model_validator(mode="after")
    def _rises(self) -> Self:
        _rising(self.low, self.high)
        return self


@dataclass(frozen=True, config=STRICT)
class LogUniform:
    """Any number from `low` to `high`, uniform on a logarithmic scale."""

    low: Annotated[float, Field(gt=0.0)]
    high: float
    kind: Literal["log_uniform"] = "log_uniform"

    @model_validator(mode="after")
    def _rises(self) -> Self:
        _rising(self.low, self.high)
        return self


@dataclass(frozen=True, config=STRICT)
class Integer:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    kind: Literal["integer"] = "integer"

    @model_validator(mode="after")
    def _rises(self) -> Self:
        _rising(self.low, self.high)
        return self


def _rising(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"low ({low}) must be below high ({high})")


AnyDimension = Choice | Alternatives | Uniform | LogUniform | Integer

Dimension = Annotated[AnyDimension, Field(discriminator="kind")]
"""Any dimension of a space; `kind` says which."""

_DIMENSIONS: Final = TypeAdapter(dict[str, Dimension])


@dataclass(frozen=True, config=STRICT)
class Space:
    """Dimensions by name: the dotted name of a field, or a word for `Alternatives`.

    Raises:
        ValueError: there is no dimension, a field is in two dimensions, or a field may not be searched.
    """

    dimensions: Mapping[str, Dimension]

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if not self.dimensions:
            raise ValueError("a space needs at least one dimension")
        seen: set[str] = set()
        for name, dimension in self.dimensions.items():
            if isinstance(dimension, Alternatives) == ("." in name):
                way_out = "a word without a dot" if isinstance(dimension, Alternatives) else "a field's dotted name"
                raise ValueError(f"{name}: a dimension of kind {dimension.kind} is named by {way_out}")
            fields = fields_of(name, dimension)
            for field in sorted(fields):
                if not field.startswith(SEARCHED):
                    raise ValueError(
                        f"{field}: only fields of {' and '.join(group.rstrip('.') for group in SEARCHED)} can be "
                        "searched; set others for the whole search"
                    )
            if twice := sorted(seen & fields):
                raise ValueError(f"{twice[0]}: this field is in two dimensions; put what belongs together into one")
            seen |= fields
        return self

    def to_json(self) -> JsonObject:
        """Return JSON-ready dimensions by name."""
        dumped: JsonObject = _DIMENSIONS.dump_python(dict(self.dimensions), mode="json")
        return dumped

    @classmethod
    def from_json(cls, value: object, where: str = "space") -> Space:
        """Read a space from the values of `to_json`.

        Args:
            value: for example {"training.learning_rate": {"kind": "log_uniform", "low": 1e-4, "high": 1e-2}}.
            where: file, for the message.

        Raises:
            ConfigError: a dimension is wrong; the message is one line with its name and its fault.
        """
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: a space is an object of dimensions by name, this is a {type(value).__name__}.")
        try:
            return cls(_DIMENSIONS.validate_json(json.dumps(value), strict=True))
        except (ValidationError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: {_said(error)}") from None

    def apply(self, experiment: Experiment, point: Point) -> Experiment:
        """Return the experiment at a point.

        Raises:
            ConfigError: the experiment has no such field, or refuses a value.
        """
        values: JsonObject = {}
        for name, value in point.items():
            dimension = self.dimensions.get(name)
            if isinstance(dimension, Alternatives):
                values |= dimension.options[str(value)]
            else:
                values[name] = value
        return experiment.override({name: json.dumps(value) for name, value in values.items()})

    def points(self) -> Iterator[JsonObject]:
        """Yield every point of a finite space; the last dimension changes fastest.

        Raises:
            ConfigError: a dimension is a range of real numbers.
        """
        for name, dimension in self.dimensions.items():
            if isinstance(dimension, Uniform | LogUniform):
                raise ConfigError(
                    f"space: a grid tries every point, and {name} is {dimension.kind}, which has endlessly many; make "
                    "it a choice, or search at random."
                )
        # itertools.product would hold all values of the ranges in memory.
        return self._points(list(self.dimensions.items()))

    def _points(self, rest: list[tuple[str, AnyDimension]]) -> Iterator[JsonObject]:
        if not rest:
            yield {}
            return
        (name, dimension), *others = rest
        for value in _finite(dimension):
            for point in self._points(others):
                yield {name: value, **point}

    @property
    def size(self) -> int | None:
        """Number of points; None if a dimension is a range of real numbers."""
        sizes = [_size(dimension) for dimension in self.dimensions.values()]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    @property
    def fields(self) -> set[str]:
        """All fields that are searched."""
        return {field for name, dimension in self.dimensions.items() for field in fields_of(name, dimension)}

    def check(self, experiment: Experiment, where: str = "space") -> None:
        """Refuse a space that does not fit the experiment.

        Each value or end of a range is tried with the first value of the other dimensions. Then all points of a small
        space are tried, or some random points of a larger one.

        Raises:
            ConfigError: the experiment lacks a field or refuses a point; the message is one line.
        """
        first = {name: _ends(dimension)[0] for name, dimension in self.dimensions.items()}
        each = ({**first, name: value} for name, dimension in self.dimensions.items() for value in _ends(dimension))
        several: Iterator[Point]
        if self.size is not None and self.size <= LARGEST_WHOLE_CHECK:
            several = self.points()
        else:
            chance = random.Random(0)
            several = (
                {name: _drawn(dimension, chance) for name, dimension in self.dimensions.items()} for _ in range(_DRAWS)
            )
        for point in itertools.chain(each, several):
            try:
                self.apply(experiment, point)
            except ConfigError as error:
                fault = str(error).removeprefix("option ").removeprefix("options: ").rstrip(".")
                of = f"(recipe {experiment.recipe})"
                # Either one field of the space is wrong, or several do not go together.
                if "no such field" in fault or fault.partition(":")[0] in self.fields:
                    raise ConfigError(f"{where}: {fault} {of}.") from None
                raise ConfigError(
                    f"{where}: {fault} {of}, at {shown(point)}; put what only works together into one dimension of "
                    "kind alternatives."
                ) from None


def fields_of(name: str, dimension: AnyDimension) -> set[str]:
    """Return the fields that a dimension sets."""
    if isinstance(dimension, Alternatives):
        return {field for option in dimension.options.values() for field in option}
    return {name}


def shown(point: Point) -> str:
    """Return a point in one line: the last part of each name with its value."""
    return ", ".join(f"{name.rpartition('.')[2]} {value_text(value)}" for name, value in point.items())


def value_text(value: JsonValue) -> str:
    """Format a value of a point for people, with four digits for numbers."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _size(dimension: AnyDimension) -> int | None:
    match dimension:
        case Choice():
            return len(dimension.values)
        case Alternatives():
            return len(dimension.options)
        case Integer():
            return dimension.high - dimension.low + 1
    return None


def _finite(dimension: AnyDimension) -> Iterator[JsonValue]:
    match dimension:
        case Choice():
            yield from dimension.values
        case Alternatives():
            yield from dimension.options
        case Integer():
            yield from range(dimension.low, dimension.high + 1)


def _ends(dimension: AnyDimension) -> list[JsonValue]:
    """Return all values of a choice, or both ends of a range."""
    match dimension:
        case Choice() | Alternatives():
            return list(_finite(dimension))
        case _:
            return [dimension.low, dimension.high]


def _drawn(dimension: AnyDimension, chance: random.Random) -> JsonValue:
    match dimension:
        case Choice() | Alternatives():
            return chance.choice(list(_finite(dimension)))
        case Uniform():
            return chance.uniform(dimension.low, dimension.high)
        case LogUniform():
            drawn = math.exp(chance.uniform(math.log(dimension.low), math.log(dimension.high)))
            return min(max(drawn, dimension.low), dimension.high)
        case Integer():
            return chance.randint(dimension.low, dimension.high)


def _said(error: Exception) -> str:
    """Return the fault and its dimension, in one line."""
    if not isinstance(error, ValidationError):
        return f"{error}."
    fault = error.errors(include_url=False)[0]
    # The location of a union includes the chosen kind.
    name = ".".join(str(part) for number, part in enumerate(fault["loc"]) if number != 1)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "union_tag_invalid":
        message = f"kind is one of {fault['ctx']['expected_tags']}"
    elif fault["type"] == "union_tag_not_found":
        message = "it has no kind: choice, alternatives, uniform, log_uniform or integer"
    elif fault["type"] == "unexpected_keyword_argument":
        message = "there is no such entry"
    return f"{name + ': ' if name else ''}{message[:1].lower()}{message[1:]}."
