"""`mgc tune` on a real Ray and a real object store: trials, one that fails, the best as a bundle, its score."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.bundles import open_bundle
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.errors import TrainingError
from mgc.recipes.space import Choice, LogUniform, Space
from pipelines.training.requests import SearchRequest
from pipelines.training.search import search_recipe
from tests.support import tiny_features
from tune.config import Scheduler, SearchConfig, Searcher

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

RATES = Space({"training.learning_rate": LogUniform(1e-3, 1e-1), "training.batch_size": Choice((8, 16))})


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_features.write(tmp_path_factory.mktemp("features"))


def read(out: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A search's JSON and its table."""
    found: dict[str, Any] = json.loads(files.read_text(Uri.parse(f"{out}/search.json")))
    table = pq.read_table(io.BytesIO(files.read_bytes(Uri.parse(f"{out}/trials.parquet"))))
    return found, table.to_pylist()


def test_a_grid_becomes_a_bundle_though_a_trial_fails(
    features: str, ray_session: Profile, bucket_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # A batch of more clips than there are is no experiment's fault, but this data's: it is found when the trial begins.
    space = Space({"training.batch_size": Choice((8, 1000))})
    out = f"{bucket_uri}/search"
    config = SearchConfig(searcher="grid", scheduler="fifo")
    request = SearchRequest(
        tiny_features.EXPERIMENT, space, config, Uri.parse(features), Uri.parse(out), test=True, profile=ray_session
    )
    summary = search_recipe(request)
    assert summary.status == "done"
    found, rows = read(out)
    assert [row["training.batch_size"] for row in rows] == [8, 1000]
    for row in rows:
        if row["training.batch_size"] == 1000:
            assert row["status"] == "failed"
            assert re.match(r"training\.batch_size 1000\b.*\b128\b", row["reason"])
            assert row["score"] is None
        else:
            assert (row["status"], row["reason"], row["epochs"]) == ("done", "", 2)
            assert [each["epoch"] for each in row["history"]] == [1, 2]
            assert row["score"] == max(each["validation_macro_f1"] for each in row["history"])
    best = rows[0]
    assert found["best"] == best["number"] == summary.counts["best_trial"]
    # The bundle is that trial's, says what it was trained on, and was scored once.
    bundle = open_bundle(Uri.parse(f"{out}/bundle"))
    assert bundle.experiment.training.batch_size == best["training.batch_size"]
    assert bundle.training.validation["validation_macro_f1"] == best["score"]
    assert bundle.training.search.trial == best["number"]
    made = bundle.training.made_with
    assert (made.workers, made.accumulation, made.precision) == (1, 1, "float32")
    assert bundle.trained_on is not None
    assert bundle.evaluation.read_scores().tracks == 8
    assert "test_macro_f1" in summary.counts
    # Tune's own files lie there too: checkpoints, and events with hyperparameters for TensorBoard.
    names = [uri.name for uri in files.list_uris(Uri.parse(f"{out}/trials"))]
    assert "best.safetensors" in names
    assert sum(name.startswith("events.out.tfevents") for name in names) >= 1
    page = files.read_text(Uri.parse(f"{out}/report.html"))
    assert page.count("<svg") == 3
    printed = capsys.readouterr()
    assert re.search(r"trial 1/2\b.*macro_f1", printed.err)
    assert re.search(r"trial 2\b.*training\.batch_size 1000\b.*\b128\b", printed.err)
    assert "Traceback" not in printed.err
    # Stdout is kept for the summary.
    assert not [line for line in printed.out.splitlines() if line.strip() and "(raylet)" not in line]
    # The same command again finds it done.
    assert search_recipe(request).status == "up_to_date"


@pytest.mark.drill
def test_every_trial_fails(
    features: str, ray_session: Profile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with the first reason, the whole table and the report, and no bundle."""
    out = tmp_path / "search"
    request = SearchRequest(
        tiny_features.EXPERIMENT, Space({"training.batch_size": Choice((1000, 2000))}),
        SearchConfig(searcher="grid", scheduler="fifo"), Uri.parse(features), Uri.of_path(out), profile=ray_session,
    )  # fmt: skip
    with pytest.raises(TrainingError, match=r"of 2 trials none\b.*\bbatch_size (1000|2000)\b"):
        search_recipe(request)
    _, rows = read(str(out))
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert (out / "report.html").exists()
    assert not (out / "bundle").exists()
    assert "Traceback" not in capsys.readouterr().err


SEARCHES: list[tuple[Searcher, Scheduler]] = [
    ("tpe", "asha"), ("random", "hyperband"), ("random", "pbt"), ("tpe", "fifo"), ("random", "asha")
]  # fmt: skip
ALWAYS = [("tpe", "asha")]


@pytest.mark.parametrize(
    ("searcher", "scheduler"),
    [pytest.param(*each, marks=[] if each in ALWAYS else [pytest.mark.drill], id="-".join(each)) for each in SEARCHES],
)
def test_every_searcher_and_scheduler_searches(
    searcher: Searcher, scheduler: Scheduler, features: str, ray_session: Profile, tmp_path: Path
) -> None:
    trials = 6 if scheduler in ("hyperband", "pbt") else 4
    config = SearchConfig(searcher=searcher, scheduler=scheduler, trials=trials, metric="loss", reduction=2)
    experiment = tiny_features.EXPERIMENT.override({"training.epochs": "4"})
    summary = search_recipe(
        SearchRequest(experiment, RATES, config, Uri.parse(features), Uri.of_path(tmp_path), profile=ray_session)
    )
    found, rows = read(str(tmp_path))
    assert summary.counts["best_trial"] == found["best"]
    assert len(rows) == trials
    assert {row["status"] for row in rows} <= {"done", "stopped"}
    assert all(1e-3 <= row["training.learning_rate"] <= 1e-1 for row in rows)
    scores = [row["score"] for row in rows]
    assert rows[found["best"] - 1]["score"] == min(scores)
    longest = [row["epochs"] for row in rows]
    assert max(longest) == 4
    if scheduler in ("asha", "hyperband"):
        assert min(longest) < 4
    if scheduler in ("pbt", "fifo"):
        assert set(longest) == {4}


@pytest.mark.drill
def test_trials_of_two_workers_train_inside_of_a_trainer(features: str, ray_session: Profile, tmp_path: Path) -> None:
    config = SearchConfig(scheduler="asha", trials=2)
    # What a trainer reports inside an epoch has no figures, and is not Tune's business.
    profile = replace(ray_session, train_workers=2, checkpoint_steps=3)
    search_recipe(
        SearchRequest(
            tiny_features.EXPERIMENT,
            RATES,
            config,
            Uri.parse(features),
            Uri.of_path(tmp_path),
            workers=2,
            profile=profile,
        )
    )
    _, rows = read(str(tmp_path))
    assert len(rows) == 2
    assert any(row["status"] == "done" and row["epochs"] == 2 for row in rows)
    assert open_bundle(Uri.of_path(tmp_path / "bundle")).training.made_with.workers == 2


@pytest.mark.drill
def test_the_best_is_trained_again_with_validation(features: str, ray_session: Profile, tmp_path: Path) -> None:
    config = SearchConfig(trials=2, scheduler="fifo")
    search_recipe(
        SearchRequest(
            tiny_features.EXPERIMENT,
            RATES,
            config,
            Uri.parse(features),
            Uri.of_path(tmp_path),
            refit=True,
            profile=ray_session,
        )
    )
    bundle = open_bundle(Uri.of_path(tmp_path / "bundle"))
    assert bundle.experiment.protocol.refit
    assert bundle.training.data.clips == {"train_clips": 160, "validation_clips": 0}
    assert bundle.experiment.training.select == "last"
