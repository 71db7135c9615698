"""A worker, a node or the driver of a training is killed, or Ctrl-C pressed, while a checkpoint is on its way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.session import local_cluster, ray_internals
from cluster.session.local_cluster import LocalCluster, LocalClusterSpec, descendants
from cluster.storage import files
from cluster.storage.uri import Uri
from tests.support import tiny_features
from tests.support.drills import Moment
from tests.support.fault_proxy import Faults, Proxy
from tests.support.object_store import ObjectStore

pytestmark = [pytest.mark.cluster, pytest.mark.drill, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 240.0

FIELDS = [
    "--front_end.n_mels", "16", "--front_end.clip_seconds", "1.0", "--front_end.frames", "32",
    "--model.channels", "4,6", "--model.blocks", "0", "--training.epochs", "5", "--training.batch_size", "8",
    "--training.average", "0.9", "--training.precision", "float32",
]  # fmt: skip
"""The house's recipe, small: class-balanced, augmented, batch normalisation, two workers."""


@pytest.fixture(scope="module")
def nodes(s3_environment: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster of a head and two nodes, whose workers know the object store."""
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    with local_cluster.running(LocalClusterSpec(environment), tmp_path_factory.mktemp("nodes")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def bucket(s3_environment: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny features in the object store."""
    uri = f"s3://{s3_environment.make_bucket()}"
    files.copy_tree(Uri.parse(tiny_features.write(tmp_path_factory.mktemp("features"))), Uri.parse(f"{uri}/features"))
    return uri


class Driver:
    """A driver as a process of its own."""

    def __init__(self, cluster: LocalCluster, command: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**cluster.environment, "MGC_STALL_SECONDS": "60", ray_internals.WORKER_START_SECONDS: "20"},
            )

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=10)

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()

    def wait(self) -> None:
        assert self.process.wait(timeout=PATIENCE_SECONDS) == 0, self.said


def training(nodes: LocalCluster, bucket: str, name: str, log: Path) -> Driver:
    command = [
        "-m", "pipelines.train", "--recipe", "house", "--features", f"{bucket}/features",
        "--out", f"{bucket}/{name}", "--workers", "2", *FIELDS,
    ]  # fmt: skip
    return Driver(nodes, command, log)


def history(bucket: str, name: str) -> list[dict[str, Any]]:
    metrics: dict[str, Any] = json.loads(files.read_text(Uri.parse(f"{bucket}/{name}/metrics.json")))
    assert metrics["made_with"]["workers"] == 2
    rows: list[dict[str, Any]] = metrics["history"]
    return rows


@pytest.fixture(scope="module")
def undisturbed(nodes: LocalCluster, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    job = training(nodes, bucket, "undisturbed", tmp_path_factory.mktemp("undisturbed") / "job.log")
    try:
        job.wait()
    finally:
        job.end()
    return history(bucket, "undisturbed")


def kill(kind: str, cluster: LocalCluster, job: Driver) -> None:
    """A process that trains, the node that it is on, or the driver."""
    if kind == "driver":
        job.kill()
        return
    found = [(node, worker) for node in cluster.nodes for worker in node.workers(ray_internals.TRAIN_WORKER)]
    assert found, [title for node in cluster.nodes for title in node.titles().values()]
    node, worker = found[0]
    if kind == "node":
        cluster.kill(node)
    else:
        os.kill(worker, signal.SIGKILL)


def reached(moment: Moment, job: Driver) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not moment.has_come():
        assert job.process.poll() is None, job.said
        assert time.monotonic() < deadline, job.said
        time.sleep(0.1)


@pytest.mark.parametrize("kind", ["worker", "node", "driver", "interrupted"])
def test_it_ends_as_if_nothing_had_been(
    kind: str, nodes: LocalCluster, bucket: str, store_proxy: Proxy, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The state of the third checkpoint is on its way: what counts is the second."""
    started = time.monotonic()
    nodes.fill()
    held = Moment(3)
    with (
        store_proxy.armed(Faults(key=f"{kind}/*/state.json", methods=("PUT",), call=held)),
        contextlib.ExitStack() as ending,
    ):
        ending.callback(held.release)
        job = training(nodes, bucket, kind, tmp_path / "1.log")
        ending.callback(job.end)
        reached(held, job)
        if kind == "interrupted":
            job.process.send_signal(signal.SIGINT)
            assert job.process.wait(timeout=60) == 130, job.said
            assert json.loads(job.said.splitlines()[-1])["status"] == "interrupted"
        else:
            kill(kind, nodes, job)
        held.release()
        if kind in ("driver", "interrupted"):
            job = training(nodes, bucket, kind, tmp_path / "2.log")
            ending.callback(job.end)
        job.wait()
    assert history(bucket, kind) == undisturbed
    print(f"{kind} killed: done after {time.monotonic() - started:.1f} s")


def test_a_node_less_and_it_goes_on_with_the_worker_that_has_a_place(
    nodes: LocalCluster, bucket: str, store_proxy: Proxy, tmp_path: Path
) -> None:
    """Each step is of the whole set, so the losses say that the global batch stayed."""
    nodes.fill()
    held = Moment(2)

    def run(name: str, log: str, workers: int) -> Driver:
        command = ["-m", "tests.support.elastic_driver", f"{bucket}/features", f"{bucket}/{name}", str(workers)]
        return Driver(nodes, command, tmp_path / log)

    with (
        store_proxy.armed(Faults(key="elastic/*/state.json", methods=("PUT",), call=held)),
        contextlib.ExitStack() as ending,
    ):
        ending.callback(held.release)
        job = run("elastic", "elastic.log", 2)
        ending.callback(job.end)
        reached(held, job)
        kill("node", nodes, job)
        held.release()
        job.wait()
    found = json.loads(job.said.splitlines()[-1])
    assert found["workers"] == 1
    alone = run("alone", "alone.log", 1)
    try:
        alone.wait()
    finally:
        alone.end()
    wanted = json.loads(alone.said.splitlines()[-1])
    assert len(found["history"]) == len(wanted["history"])
    for row, other in zip(found["history"], wanted["history"], strict=True):
        assert row == pytest.approx(other, rel=1e-4)
