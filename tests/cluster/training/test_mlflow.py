"""A training as a run of a real MLflow server on loopback. Skipped where the package is not installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.training import mlflow
from cluster.training.journal import Journal, JournalPlan
from cluster.training.journal_writer import JournalWriter, collect_settings
from cluster.training.mlflow import KEY_TAG, MlflowRun
from tests.cluster.training.test_journal import GENRES, STEPS, epoch
from tests.support.ray_head import free_port
from tests.support.tiny_features import EXPERIMENT

if importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("mlflow.server") is None:
    pytest.skip("no MLflow: pip install mlflow", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("default")

START_SECONDS = 120


@dataclass
class Server:
    """An MLflow server that can be stopped and started again on the same port, with the same store."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1",
        ]  # fmt: skip
        variables = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=variables)
        deadline = time.monotonic() + START_SECONDS
        while not self._well():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text()[-3000:])
            time.sleep(0.3)

    def _well(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=10) as answer:
            return bool(answer.status == 200)
        return False

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(timeout=10)
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("mlflow"), free_port())
    found.start()
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setattr(mlflow, "SEND_SECONDS", 0.0)


def plan(server: Server, key: str) -> JournalPlan:
    return JournalPlan(f"tiny-{key}", key, collect_settings(EXPERIMENT), GENRES, None, server.url)


def client(server: Server) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=server.url)


def runs(server: Server, key: str) -> list[Any]:
    asked = client(server)
    experiment = asked.get_experiment_by_name(mlflow.EXPERIMENT)
    return list(asked.search_runs([experiment.experiment_id], f"tags.`{KEY_TAG}` = '{key}'"))


def test_a_training_is_a_run(server: Server) -> None:
    journal = Journal(plan(server, "a1"))
    writer = JournalWriter(journal)
    first, second = epoch(writer, 0, right=7), epoch(writer, 1)
    assert journal.close(first, {"bundle_id": "0123456789ab"}) == []
    [run] = runs(server, "a1")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "tiny-a1")
    assert run.data.params["training.batch_size"] == "8"
    assert run.data.params["model.kind"] == "house_cnn"
    assert run.data.tags["bundle_id"] == "0123456789ab"
    assert run.data.metrics["kept/validation_macro_f1"] == pytest.approx(first["validation_macro_f1"])
    asked = client(server)
    seen = asked.get_metric_history(run.info.run_id, "epoch/validation_macro_f1")
    assert [(each.step, each.value) for each in seen] == [
        (STEPS, pytest.approx(first["validation_macro_f1"])),
        (2 * STEPS, pytest.approx(second["validation_macro_f1"])),
    ]
    losses = asked.get_metric_history(run.info.run_id, "step/loss")
    assert [each.step for each in losses] == [10, 20, 25, 35, 45, 50]
    assert [file.path for file in asked.list_artifacts(run.info.run_id)] == ["confusion.png"]


def test_a_training_that_is_taken_up_is_the_same_run(server: Server) -> None:
    first = Journal(plan(server, "b2"))
    epoch(JournalWriter(first), 0)
    assert first.close(None) == []
    [run] = runs(server, "b2")
    assert run.info.status == "KILLED"
    second = Journal(plan(server, "b2"))
    row = epoch(JournalWriter(second), 1)
    assert second.close(row) == []
    [again] = runs(server, "b2")
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    # What was trained to its end and is trained anew is another run.
    third = Journal(plan(server, "b2"))
    third.close(None)
    assert len(runs(server, "b2")) == 2


def test_what_a_server_that_was_away_missed_is_sent_later(server: Server) -> None:
    server.stop()
    journal = Journal(plan(server, "c3"))
    writer = JournalWriter(journal)
    epoch(writer, 0)
    [line] = journal.problems()
    assert line.startswith(f"MLflow at {server.url}")
    server.start()
    row = epoch(writer, 1)
    assert journal.close(row) == []
    [run] = runs(server, "c3")
    history = client(server).get_metric_history(run.info.run_id, "epoch/train_loss")
    assert [each.step for each in history] == [STEPS, 2 * STEPS]
    assert run.info.status == "FINISHED"


def test_a_server_that_is_away_is_asked_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "SEND_SECONDS", 1.0)
    clock = [0.0]
    monkeypatch.setattr(mlflow.time, "monotonic", lambda: clock[0])
    run = MlflowRun(f"http://127.0.0.1:{free_port()}", "x", "x", {})
    asked: list[float] = []
    monkeypatch.setattr(run, "_send", lambda: asked.append(clock[0]) or _away())
    for _ in range(200):
        run.log({"loss": 1.0}, 1)
        clock[0] += 1.0
    assert asked == [1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0]


def _away() -> None:
    raise OSError("away")
