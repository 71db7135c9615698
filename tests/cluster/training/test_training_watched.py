"""A training as one may watch it: TensorBoard's files in the object store, Prometheus, Ray's dashboard, lines."""

from __future__ import annotations

import json
import os
import urllib.request
from itertools import pairwise
from typing import Any

import pytest

from cluster.session import ray_internals
from cluster.session.profiles import Profile
from mgc.bundle import load_bundle
from pipelines import train
from pipelines.command.job import run
from tests.support import events, tiny_features
from tests.support.ray_head import RayHead
from tests.support.web.scraped import scraping

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

CLIPS = 128
"""To train on: a third of the 48 tracks of four clips each are held out."""


@pytest.fixture(scope="module")
def watched(ray_session: Profile, s3_environment: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A training of two epochs with an MLflow server that does not answer."""
    folder = tmp_path_factory.mktemp("watched")
    features = tiny_features.write(folder / "features")
    runs = f"s3://{s3_environment.make_bucket()}/runs"
    fields = [f"--{name}={value}" for name, value in tiny_features.FIELDS.items()]
    arguments = [
        "--features", features, "--out", str(folder / "bundle"), "--tensorboard", runs, "--mlflow",
        "http://ann:secret@127.0.0.1:1", *fields,
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        said: list[str] = []
        patch.setattr("pipelines.training.train.say", said.append)
        with scraping() as scraped:
            code = run(train.command, arguments)
    bundle = load_bundle(folder / "bundle")
    return {"code": code, "said": said, "runs": runs, "bundle": bundle, "folder": folder, "scraped": scraped}


def test_it_is_done_whoever_does_not_answer(watched: dict[str, Any]) -> None:
    assert watched["code"] == 0
    lines = [line for line in watched["said"] if line.startswith("MLflow at http://")]
    assert len(lines) == 2, "one before it begins, one at the end"
    assert all("secret" not in line and "\n" not in line for line in lines)
    [line] = [line for line in watched["said"] if line.startswith("to watch: ")]
    assert line.endswith(f"tensorboard --logdir {watched['runs']}")


def test_tensorboard_has_every_epoch_and_the_picture(watched: dict[str, Any]) -> None:
    bundle = watched["bundle"]
    name = f"{bundle.experiment.recipe}-{bundle.training.training_key}"
    found = events.read(f"{watched['runs']}/{name}")
    history = bundle.training.history
    steps = CLIPS // 8
    # Every ten steps, at the end of each epoch, and in between if ten seconds have passed.
    noted = found.steps("step/loss")
    assert {steps, 2 * steps} <= set(noted)
    assert all(0 < later - earlier <= 10 for earlier, later in pairwise([0, *noted]))
    for figure in ("train_loss", "validation_loss", "validation_accuracy", "validation_macro_f1"):
        assert found.scalars[f"epoch/{figure}"] == [
            (steps * row["epoch"], pytest.approx(row[figure], rel=1e-5)) for row in history
        ]
    assert all(0 < rate <= bundle.experiment.training.learning_rate for _, rate in found.scalars["step/learning_rate"])
    assert found.images["confusion"][0] == steps * bundle.training.kept_epoch
    assert found.parameters["training.epochs"] == 2
    assert not (watched["folder"] / "bundle" / "tensorboard").exists()


def test_prometheus_finds_the_counters_of_training(watched: dict[str, Any]) -> None:
    """Ray brings the counters to the metrics port of the node every few seconds."""
    wanted = {"clips_total": 2.0 * CLIPS, "steps_total": 2.0 * CLIPS / 8, "epochs_total": 2.0}
    wanted["validation_macro_f1"] = watched["bundle"].training.history[-1]["validation_macro_f1"]
    run_name = f'run="{watched["bundle"].experiment.recipe}-{watched["bundle"].training.training_key}"'
    lines = [line for line in watched["scraped"].values() if run_name in line]
    found = {name: float(line.rsplit(" ", 1)[1]) for name in wanted for line in lines if f"_{name}{{" in line}
    assert found == pytest.approx(wanted), lines
    assert all(line.startswith("ray_mgc_training_") for line in lines)


def test_the_dashboard_lists_it(watched: dict[str, Any], ray_head: RayHead) -> None:
    """Its Train page shows what this address answers."""
    request = urllib.request.Request(
        f"{ray_head.jobs_url}{ray_internals.TRAIN_RUNS_PATH}",
        headers={"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        runs = json.loads(answer.read())["train_runs"]
    [mine] = [each for each in runs if each["name"] == watched["bundle"].training.training_key]
    assert mine["status"] == "FINISHED"
