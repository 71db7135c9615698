"""Trials as records, as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage.uri import Uri
from tests.unit.tune.searches import search
from tune.importance import FEWEST_TRIALS, importance


def test_the_best_trial_is_that_of_the_best_score() -> None:
    found = search()
    scored = [trial for trial in found.trials if trial.score is not None]
    assert found.best == max(scored, key=lambda trial: trial.score or 0)
    assert [trial.status for trial in found.ranked[-3:]] == ["failed"] * 3
    losses = replace(found, metric="loss")
    assert losses.best == min(scored, key=lambda trial: trial.score or 0)
    # A trial without a checkpoint cannot become a bundle, whatever it scored.
    first, *others = found.ranked
    assert replace(found, trials=[replace(first, checkpoint=None), *others]).best == others[0]
    assert replace(found, trials=[]).best is None


def test_the_table_has_a_row_a_trial_and_a_column_a_dimension(tmp_path: Path) -> None:
    found = search()
    found.write(Uri.of_path(tmp_path), {"finished": {"test": True}})
    table = pq.read_table(tmp_path / "trials.parquet")
    assert table.num_rows == len(found.trials)
    assert table.schema.field("training.learning_rate").type == pa.float64()
    assert table.schema.field("model.blocks").type == pa.int64()
    rows = table.to_pylist()
    assert [json.loads(row["model.channels"]) for row in rows] == [t.point["model.channels"] for t in found.trials]
    assert [row["history"] for row in rows] == [list(trial.history) for trial in found.trials]
    assert [(row["number"], row["status"], row["score"]) for row in rows] == [
        (trial.number, trial.status, trial.score) for trial in found.trials
    ]
    written = json.loads((tmp_path / "search.json").read_text())
    assert written == json.loads(json.dumps({**found.to_json(), "finished": {"test": True}}))
    assert (written["format_version"], written["best"]) == (1, found.ranked[0].number)


def test_importance_finds_what_mattered() -> None:
    shares = importance(search(60))
    assert shares is not None
    assert sum(shares.values()) == 1 or abs(sum(shares.values()) - 1) < 1e-9
    assert next(iter(shares)) == "training.learning_rate"
    assert shares["training.learning_rate"] > 0.7
    assert set(shares) == set(search().space.dimensions)


def test_importance_says_nothing_about_few_trials_or_equal_scores() -> None:
    found = search()
    scored = [trial for trial in found.trials if trial.score is not None]
    assert importance(replace(found, trials=scored[: FEWEST_TRIALS - 1])) is None
    assert importance(replace(found, trials=[replace(trial, score=0.5) for trial in scored])) is None
