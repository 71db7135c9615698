"""Settings of a search. A command line makes this, so this module imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT

Searcher = Literal["random", "grid", "tpe"]
Scheduler = Literal["fifo", "asha", "hyperband", "pbt"]
Metric = Literal["macro_f1", "accuracy", "loss"]

DEFAULT_TRIALS: Final = 20
"""Default number of trials of a search without a grid."""


@dataclass(frozen=True, config=STRICT)
class SearchConfig:
    """Settings of a search.

    Attributes:
        searcher: method to choose points: at `random`, every point of a `grid`, or by Optuna's `tpe` (tree-structured
            Parzen estimators, Bergstra et al. 2011), which learns from earlier trials.
        scheduler: method to end trials early: none (`fifo`), `asha` (asynchronous successive halving, Li et al. 2020),
            `hyperband` (Li et al. 2018), or `pbt` (population-based training, Jaderberg et al. 2017). `pbt` ends no
            trial, but copies better trials over worse ones in the middle of training.
        trials: number of points; None for a grid, which uses all its points.
        metric: validation figure to compare trials by, at the epoch that is kept.
        seconds: time after which all trials end, in each run of the job; None for no limit.
        grace_epochs: epochs before `asha` may end a trial, or between two changes of `pbt`.
        reduction: factor N; `asha` and `hyperband` continue one trial in N.
        seed: seed of the points.
    """

    searcher: Searcher = "random"
    scheduler: Scheduler = "asha"
    trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    metric: Metric = "macro_f1"
    seconds: Annotated[float, Field(gt=0.0)] | None = None
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    reduction: Annotated[int, Field(ge=2, le=100)] = 3
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.searcher == "grid") != (self.trials is None):
            raise ValueError("a grid tries all its points; the other searchers need a number of trials")
        if self.scheduler == "pbt" and self.searcher != "random":
            raise ValueError("pbt starts from random points and moves them itself; choose the searcher random")
        return self

    @property
    def falls(self) -> bool:
        """Whether a lower score is better."""
        return self.metric == "loss"

    @property
    def score(self) -> str:
        """Name of the score in the reports of trials."""
        return f"kept_validation_{self.metric}"
