"""Measure how much each dimension of a space affects the score.

Functional ANOVA (Hutter, Hoos and Leyton-Brown 2014), as Optuna computes it: a random forest predicts the score from
the point. The importance of a dimension is the share of the variance of this prediction, over the whole space, that the
dimension alone explains.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from mgc.recipes.space import Alternatives, AnyDimension, Choice, Integer, LogUniform, Point, Uniform
from tune.records import SearchRecord
from tune.spaces import categories_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
FEWEST_TRIALS: Final = 10
"""Fewest scored trials. A forest fitted to fewer shows nothing."""

LIMITS: Final = (
    "The forest is only as good as the trials it saw. With few trials, or if a scheduler or a searcher kept to one "
    "corner of the space, these shares are rough. Trials that were stopped early count with the score they had then. "
    "No share includes what two dimensions do only together. A dimension that matters little within its range may "
    "matter outside it."
)


def importance(search: SearchRecord) -> dict[str, float] | None:
    """Return the share of each dimension, largest first. The shares sum to 1.

    Returns:
        The shares by dimension, or None if fewer than `FEWEST_TRIALS` trials have a score, or all scores are the same.
    """
    # This import takes a second, and not every search has an importance.
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    searched = {name: _distribution(each) for name, each in search.space.dimensions.items() if _varies(each)}
    scored = [trial for trial in search.trials if trial.score is not None and math.isfinite(trial.score)]
    if not searched or len(scored) < FEWEST_TRIALS or len({trial.score for trial in scored}) < 2:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for trial in scored:
        study.add_trial(
            optuna.trial.create_trial(
                params=_params(search.space.dimensions, trial.point, searched),
                distributions=searched,
                value=trial.score,
            )
        )
    with warnings.catch_warnings():
        # The warnings say that the forest is experimental or has constant columns.
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    shares = {name: float(found.get(name, 0.0)) for name in searched}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _varies(dimension: AnyDimension) -> bool:
    return not isinstance(dimension, Choice | Alternatives) or len(categories_of(dimension)) > 1


def _distribution(dimension: AnyDimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match dimension:
        case Choice() | Alternatives():
            return CategoricalDistribution(categories_of(dimension))
        case Integer():
            return IntDistribution(dimension.low, dimension.high)
        case Uniform():
            return FloatDistribution(dimension.low, dimension.high)
        case LogUniform():
            return FloatDistribution(dimension.low, dimension.high, log=True)


def _params(
    dimensions: Mapping[str, AnyDimension], point: Point, searched: Mapping[str, BaseDistribution]
) -> dict[str, JsonValue]:
    params: dict[str, JsonValue] = {}
    for name in searched:
        dimension, value = dimensions[name], point[name]
        params[name] = (
            categories_of(dimension)[dimension.values.index(value)] if isinstance(dimension, Choice) else value
        )
    return params
