"""Results of a search: its trials as records, as a table and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

import pyarrow as pa
from pydantic import JsonValue

from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.configuration import JsonObject
from mgc.recipes.space import AnyDimension, Integer, LogUniform, Point, Space, Uniform

FORMAT_VERSION: Final = 1
"""Version of search.json and trials.parquet."""

Status = Literal["done", "stopped", "failed", "unfinished"]
"""End of a trial: `done` after its last epoch, `stopped` by the scheduler, `failed` with a reason, or `unfinished` when
the time was over."""

EpochScores = dict[str, float]
"""Figures of one epoch: `epoch`, counted from 1, numbers by name, and `score` of the epoch kept until then."""

_MEASURED: Final = (
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "validation_macro_f1",
    "score",
)

HISTORY: Final = pa.list_(pa.struct([("epoch", pa.int64()), *((name, pa.float64()) for name in _MEASURED)]))
"""Figures of each epoch, as a column of the table."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: number of the trial from 1, in the order in which trials were created.
        trial_id: Ray's name of the trial.
        point: value of each dimension.
        status: how the trial ended.
        reason: reason for a failure, in one line; empty without one.
        score: metric of the search at the epoch that was kept; None if no epoch was finished.
        epochs: number of finished epochs.
        seconds: time spent training.
        history: figures of each epoch.
        checkpoint: its last checkpoint, which holds the best weights; None if there is none.
    """

    number: int
    trial_id: str
    point: Point
    status: Status
    reason: str = ""
    score: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    history: Sequence[EpochScores] = ()
    checkpoint: Uri | None = None

    def to_json(self) -> JsonObject:
        """Return JSON-ready values."""
        return {**asdict(self), "checkpoint": self.checkpoint and self.checkpoint.text}


@dataclass(frozen=True)
class SearchRecord:
    """A whole search.

    Attributes:
        recipe: searched recipe.
        space: searched fields.
        metric: validation figure to compare trials by: `macro_f1`, `accuracy` or `loss`.
        searcher: method that chose the points.
        scheduler: method that ended trials early.
        key: name of the search.
        trials: all trials, in order.
        seconds: time of the last run of the search; trials ran side by side.
        facts: other facts for a reader, as text by name.
        notices: notices that go with every figure made from these features.
    """

    recipe: str
    space: Space
    metric: str
    searcher: str
    scheduler: str
    key: str
    trials: Sequence[TrialRecord]
    seconds: float
    facts: Mapping[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()

    @property
    def falls(self) -> bool:
        """Whether a lower score is better."""
        return self.metric == "loss"

    @property
    def ranked(self) -> list[TrialRecord]:
        """Trials from the best to the worst; those without a score come last."""
        return sorted(self.trials, key=lambda trial: (_rank(trial.score, self.falls), trial.number))

    @property
    def best(self) -> TrialRecord | None:
        """Trial with the best score among those that have a checkpoint; None if there is none."""
        return next((trial for trial in self.ranked if trial.score is not None and trial.checkpoint), None)

    def to_json(self) -> JsonObject:
        """Return JSON-ready values."""
        best = self.best
        return {
            "format_version": FORMAT_VERSION,
            "recipe": self.recipe,
            "space": self.space.to_json(),
            "metric": self.metric,
            "searcher": self.searcher,
            "scheduler": self.scheduler,
            "key": self.key,
            "seconds": self.seconds,
            "best": None if best is None else best.number,
            "facts": dict(self.facts),
            "notices": list(self.notices),
            "trials": [trial.to_json() for trial in self.trials],
        }

    def table(self) -> pa.Table:
        """Return one row per trial: the fields of the record, and a column for each dimension under its name."""
        columns: dict[str, pa.Array] = {
            "number": pa.array([trial.number for trial in self.trials], pa.int64()),
            "trial_id": pa.array([trial.trial_id for trial in self.trials], pa.string()),
            "status": pa.array([trial.status for trial in self.trials], pa.string()),
            "reason": pa.array([trial.reason for trial in self.trials], pa.string()),
            "score": pa.array([trial.score for trial in self.trials], pa.float64()),
            "epochs": pa.array([trial.epochs for trial in self.trials], pa.int64()),
            "seconds": pa.array([trial.seconds for trial in self.trials], pa.float64()),
        }
        for name, dimension in self.space.dimensions.items():
            columns[name] = _column(dimension, [trial.point[name] for trial in self.trials])
        columns["history"] = pa.array([[dict(row) for row in trial.history] for trial in self.trials], HISTORY)
        metadata = {"mgc_search": json.dumps({"key": self.key, "recipe": self.recipe, "metric": self.metric})}
        return pa.table(columns).replace_schema_metadata(metadata)

    def write(self, folder: Uri, more: Mapping[str, JsonValue] | None = None) -> None:
        """Write `trials.parquet` and `search.json` into a folder.

        Args:
            folder: folder to write to.
            more: additional entries of the JSON.
        """
        files.write_table(folder / "trials.parquet", self.table())
        text = json.dumps({**self.to_json(), **(more or {})}, indent=2, allow_nan=False)
        files.write_bytes(folder / "search.json", f"{text}\n".encode())


def _rank(score: float | None, falls: bool) -> float:
    if score is None or not math.isfinite(score):
        return math.inf
    return score if falls else -score


def _column(dimension: AnyDimension, values: Sequence[JsonValue]) -> pa.Array:
    """Return values as numbers if all of them are numbers, otherwise as words or JSON text."""
    match dimension:
        case Integer():
            return pa.array(values, pa.int64())
        case Uniform() | LogUniform():
            return pa.array(values, pa.float64())
        case _:
            numbers = [float(each) for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
            if len(numbers) == len(values):
                return pa.array(numbers, pa.float64())
            return pa.array([value if isinstance(value, str) else json.dumps(value) for value in values], pa.string())
