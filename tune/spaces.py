"""A typed space as Ray Tune takes it, and spaces in files.

Values that are no plain numbers or words (lists of widths) travel as their JSON text: Ray's searchers and Optuna want
to hash a category.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import yaml
from ray import tune

from cluster.storage import files
from cluster.storage.failures import redact
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
"""Fields that may change in the middle of a training: neither weights nor the optimizer's state depend on them."""


def read_space(uri: str) -> Space:
    """A space from a JSON or YAML file.

    Raises:
        ConfigError: the file is neither, or no space; one line.
        StorageError: it cannot be read.
    """
    text, where = files.read_text(uri), redact(uri)
    try:
        value = json.loads(text) if uri.lower().endswith(".json") else yaml.load(text, _Loader)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: no JSON (line {error.lineno}: {error.msg}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1}: {getattr(error, 'problem', '')})" if mark else ""
        raise ConfigError(f"{where}: no YAML{line}.") from None
    return Space.from_json(value, where)


class _Loader(yaml.SafeLoader):
    """Plain values only, and 1e-3 is a number: YAML 1.1 wants a dot in it and would make it text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def for_ray(space: Space, grid: bool = False) -> dict[str, Any]:
    """Ray Tune's parameter space.

    Args:
        space: what to search.
        grid: whether every point is wanted; the space is then finite (`Space.points` says so if not).
    """
    return {name: _for_ray(dimension, grid) for name, dimension in space.dimensions.items()}


def _for_ray(dimension: AnyDimension, grid: bool) -> Any:
    match dimension:
        case Choice() | Alternatives():
            categories = categories_of(dimension)
            return tune.grid_search(categories) if grid else tune.choice(categories)
        case Integer():
            whole = range(dimension.low, dimension.high + 1)
            return tune.grid_search(list(whole)) if grid else tune.randint(dimension.low, dimension.high + 1)
        case Uniform():
            return tune.uniform(dimension.low, dimension.high)
        case LogUniform():
            return tune.loguniform(dimension.low, dimension.high)


def categories_of(dimension: Choice | Alternatives) -> list[Any]:
    """The values of a choice as Ray holds them."""
    if isinstance(dimension, Alternatives):
        return list(dimension.options)
    return [_encoded(value) for value in dimension.values]


def _encoded(value: Any) -> Any:
    return value if isinstance(value, str | bool | int | float) else json.dumps(value)


def point_of(space: Space, config: dict[str, Any]) -> dict[str, Any]:
    """The point that a trial's configuration of Ray's stands for."""
    return {name: _decoded(dimension, config[name]) for name, dimension in space.dimensions.items()}


def _decoded(dimension: AnyDimension, value: Any) -> Any:
    match dimension:
        case Choice():
            return dimension.values[categories_of(dimension).index(value)]
        case Alternatives():
            return str(value)
        case Integer():
            return int(value)
        case _:
            return min(max(float(value), dimension.low), dimension.high)


def mutations(space: Space) -> dict[str, Any]:
    """The dimensions that population-based training may change, as it takes them.

    Raises:
        ConfigError: there are none.
    """
    found = {
        name: categories_of(dimension) if isinstance(dimension, Choice | Alternatives) else _for_ray(dimension, False)
        for name, dimension in space.dimensions.items()
        if all(field.startswith(MUTABLE) for field in fields_of(name, dimension))
    }
    if not found:
        raise ConfigError(
            "space: population-based training changes fields in the middle of a training, and none of "
            f"{', '.join(space.dimensions)} may change there; it may be {', '.join(MUTABLE)}."
        )
    return found


def kept_inside(space: Space, config: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose numbers lie in their ranges: population-based training multiplies them by 0.8 or 1.2."""
    inside = dict(config)
    for name, dimension in space.dimensions.items():
        if isinstance(dimension, Integer | Uniform | LogUniform):
            inside[name] = min(max(config[name], dimension.low), dimension.high)
    return inside
