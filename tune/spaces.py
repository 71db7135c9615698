"""Convert a recipe's space for Ray Tune, and read spaces from files.

Values that are neither numbers nor words, such as lists of widths, are passed as JSON text, because Ray's searchers and
Optuna hash each category.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml
from pydantic import JsonValue
from ray import tune
from ray.tune.search.sample import Domain

from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.errors import ConfigError
from mgc.recipes.space import Alternatives, AnyDimension, Choice, Integer, LogUniform, Space, Uniform, fields_of

MUTABLE: Final = (
    "training.learning_rate",
    "training.weight_decay",
    "training.momentum",
    "training.l2",
    "training.label_smoothing",
    "training.gradient_clip",
    "training.batch_size",
    "training.balance",
    "training.repeat_threshold",
    "training.loss.",
    "training.augment.",
    "model.dropout",
)
"""Fields that may change during a training: neither the weights nor the optimizer's state depend on them."""

Category = str | bool | int | float
"""A value of a choice as Ray holds it."""


def read_space(uri: Uri) -> Space:
    """Read a space from a JSON or YAML file.

    Raises:
        ConfigError: the file is neither JSON nor YAML, or holds no space.
        StorageError: the file cannot be read.
    """
    text, where = files.read_text(uri), str(uri)
    try:
        value = json.loads(text) if uri.name.lower().endswith(".json") else yaml.load(text, _Loader)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: this is not JSON (line {error.lineno}: {error.msg}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1}: {getattr(error, 'problem', '')})" if mark else ""
        raise ConfigError(f"{where}: this is not YAML{line}.") from None
    return Space.from_json(value, where)


class _Loader(yaml.SafeLoader):
    """Reads plain values only. Reads 1e-3 as a number, which YAML 1.1 reads as text because it has no dot."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


RayDomain = Domain | dict[str, Iterable[Any]]
"""One dimension in the form that Ray Tune expects: a distribution, or all values of a grid."""


def to_ray_space(space: Space, grid: bool = False) -> dict[str, RayDomain]:
    """Return a space in the form that Ray Tune expects.

    Args:
        space: space to search.
        grid: whether to take every point. The space must then be finite, which `Space.points` checks.
    """
    return {name: _to_ray(dimension, grid) for name, dimension in space.dimensions.items()}


def _to_ray(dimension: AnyDimension, grid: bool) -> RayDomain:
    match dimension:
        case Choice() | Alternatives():
            categories = categories_of(dimension)
            return tune.grid_search(categories) if grid else tune.choice(categories)
        case Integer() if grid:
            return tune.grid_search(list(range(dimension.low, dimension.high + 1)))
        case _:
            return _to_domain(dimension)


def _to_domain(dimension: Integer | Uniform | LogUniform) -> Domain:
    # Ray's functions have no types.
    domain: Domain
    match dimension:
        case Integer():
            domain = tune.randint(dimension.low, dimension.high + 1)
        case Uniform():
            domain = tune.uniform(dimension.low, dimension.high)
        case LogUniform():
            domain = tune.loguniform(dimension.low, dimension.high)
    return domain


def categories_of(dimension: Choice | Alternatives) -> list[Category]:
    """Return the values of a choice in the form that Ray holds."""
    if isinstance(dimension, Alternatives):
        return list(dimension.options)
    return [_encode(value) for value in dimension.values]


def _encode(value: JsonValue) -> Category:
    return value if isinstance(value, str | bool | int | float) else json.dumps(value)


def to_point(space: Space, config: Mapping[str, Category]) -> dict[str, JsonValue]:
    """Return the point for Ray's configuration of a trial."""
    return {name: _decode(dimension, config[name]) for name, dimension in space.dimensions.items()}


def _decode(dimension: AnyDimension, value: Category) -> JsonValue:
    match dimension:
        case Choice():
            return dimension.values[categories_of(dimension).index(value)]
        case Alternatives():
            return str(value)
        case Integer():
            return int(value)
        case _:
            return min(max(float(value), dimension.low), dimension.high)


def mutations(space: Space) -> dict[str, Domain | list[Category]]:
    """Return the dimensions that population-based training may change, in the form that it expects.

    Raises:
        ConfigError: there are none.
    """
    found: dict[str, Domain | list[Category]] = {
        name: categories_of(dimension) if isinstance(dimension, Choice | Alternatives) else _to_domain(dimension)
        for name, dimension in space.dimensions.items()
        if all(field.startswith(MUTABLE) for field in fields_of(name, dimension))
    }
    if not found:
        raise ConfigError(
            f"space: population-based training changes fields during a training, and none of "
            f"{', '.join(space.dimensions)} may change then; these may: {', '.join(MUTABLE)}."
        )
    return found


def keep_inside(space: Space, config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with all numbers inside their ranges.

    Population-based training multiplies numbers by 0.8 or 1.2.
    """
    inside = dict(config)
    for name, dimension in space.dimensions.items():
        if isinstance(dimension, Integer | Uniform | LogUniform):
            inside[name] = min(max(config[name], dimension.low), dimension.high)
    return inside
