"""A cluster whose nodes run another mgc than the driver: every job refuses to compute there, and says so once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.session import local_cluster
from cluster.session.local_cluster import LocalCluster, LocalClusterSpec
from mgc.datasets.synthetic import SyntheticConfig, encode, plan_corpus
from mgc.software import Software
from tests.support import tiny_features

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One node with a checkout of its own: a version back, and its code differs."""
    checkout = tmp_path_factory.mktemp("checkout")
    for package in ("mgc", "cluster", "tune", "pipelines"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "mgc" / "version.py").write_text('__version__ = "0.0.9"\n')
    environment = {**os.environ, "PYTHONWARNINGS": "default", "PYTHONPATH": str(checkout)}
    spec = LocalClusterSpec(environment, nodes=1, cpus=4)
    with local_cluster.running(spec, tmp_path_factory.mktemp("nodes")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    config = SyntheticConfig(shortest_seconds=4, longest_seconds=4, damaged_tracks=0)
    for number, plan in enumerate(plan_corpus(config)[:3]):
        (folder / f"{number}.mp3").write_bytes(encode(plan))
    return folder


def refused(nodes: LocalCluster, folder: Path, *words: str) -> None:
    """Run a job from elsewhere than a checkout, whose modules Ray would give to the workers."""
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{words[0]}", *words[1:]],
        cwd=folder, env={**nodes.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, facts["status"]) == (1, "failed"), done.stderr
    line = done.stderr.splitlines()[-1]
    assert facts["error"] in line
    assert "127.0.0.2" in line
    assert str(Software.here()) in line
    assert re.search(r"mgc 0\.0\.9 \(code \w{12}\)", line)
    assert "Traceback" not in done.stderr


@pytest.mark.drill
def test_label(nodes: LocalCluster, music: Path, tmp_path: Path) -> None:
    refused(nodes, tmp_path, "label", str(music), "--labels", str(tmp_path / "labels"))
    # Nothing was staged and nothing committed.
    assert not (tmp_path / "labels" / "_delta_log").exists()
    assert not list((tmp_path / "labels").glob("_runs/*/staged/*"))


@pytest.mark.drill
def test_prepare(nodes: LocalCluster, music: Path, tmp_path: Path) -> None:
    catalog, features = tmp_path / "catalog.parquet", tmp_path / "features"
    indexed = [sys.executable, "-m", "pipelines.catalog", str(music), "--out", str(catalog)]
    subprocess.run(indexed, cwd=ROOT, env=nodes.environment, check=True, capture_output=True)
    refused(nodes, tmp_path, "prepare", str(catalog), "--out", str(features))
    assert [file.name for file in features.rglob("*.parquet")] == ["_plan.parquet"]


@pytest.mark.drill
@pytest.mark.parametrize("workers", ["1", "2"])
def test_train(workers: str, nodes: LocalCluster, tmp_path: Path) -> None:
    features = tiny_features.write(tmp_path / "features")
    fields = [word for name, value in tiny_features.FIELDS.items() for word in (f"--{name}", str(value))]
    words = ["train", "--recipe", "house", "--features", features, "--out", str(tmp_path / "bundle"), *fields]
    refused(nodes, tmp_path, *words, "--workers", workers)
    assert not (tmp_path / "bundle" / "experiment.json").exists()
