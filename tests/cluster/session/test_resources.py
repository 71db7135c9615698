"""A job that cannot get its resources says so and ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from cluster.session import ray_internals
from cluster.session.connect import at_hand, connect
from cluster.session.profiles import GROWTH, Profile, choose
from cluster.storage.uri import Uri
from cluster.tables.features import FeaturesWriter
from mgc import schema
from mgc.errors import ConfigError, ResourceError
from mgc.features.front_end import build_front_end, describe_features
from mgc.recipes.catalogue import RECIPES
from pipelines import label, train
from pipelines.command.job import run

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


@pytest.fixture
def features(tmp_path: Path) -> str:
    """Eight random clips of two genres in each split, as the recipe house-thumbnail takes them."""
    uri = str(tmp_path / "features")
    front_end = RECIPES["house-thumbnail"].build().front_end
    shape = build_front_end(front_end).shape
    writer = FeaturesWriter(Uri.parse(uri), describe_features(front_end))
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        {
            "track_id": f"{split}-{number}",
            "content_tag": "1",
            "clip_index": 0,
            "start_seconds": 0.0,
            "features": random.integers(0, 256, shape, np.uint8).tobytes(),
            "genre_top": ("folk", "metal")[number % 2],
            "split": split,
        }
        for split in ("train", "validation")
        for number in range(8)
    ]
    writer.write(pa.Table.from_pylist(rows, schema=schema.FEATURES), schema.REJECTS.empty_table())
    return uri


@pytest.fixture
def busy(ray_session: Profile, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other work holds all but half a CPU: enough to read, too little to decode or train."""
    monkeypatch.setenv("MGC_STALL_SECONDS", "4")
    monkeypatch.setenv(ray_internals.WORKER_START_SECONDS, "4")
    hog = ray.remote(num_cpus=ray_session.logical_cpus - 0.5)(Hog).remote()
    ray.get(hog.hold.remote())
    yield
    ray.kill(hog)


class Hog:
    """Holds what it was given."""

    def hold(self) -> bool:
        return True


def test_labelling_on_a_busy_cluster_ends(busy: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.mp3").write_bytes(b"no music")
    assert run(label.command, [str(tmp_path / "music"), "--labels", str(tmp_path / "labels")]) == 1
    said(capfd)


@pytest.mark.drill
def test_training_on_a_busy_cluster_ends(
    busy: None, features: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    where = ["--recipe", "house-thumbnail", "--features", features, "--out", str(tmp_path / "bundle")]
    small = ["--training.batch_size", "4", "--training.epochs", "1", "--limit", "6"]
    assert run(train.command, where + small) == 1
    said(capfd)


def said(capfd: pytest.CaptureFixture[str]) -> None:
    """One line, no traceback, the summary last."""
    out, err = capfd.readouterr()
    last = json.loads(out.splitlines()[-1])
    assert last["status"] == "failed"
    assert re.search(r"\b4 s\b", last["error"])
    assert "8 CPUs and 0 GPUs" in last["error"]
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("mgc ")


def test_patience_is_a_number(ray_session: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGC_STALL_SECONDS", "long")
    with pytest.raises(ConfigError, match=r"MGC_STALL_SECONDS.*'long'"), connect():
        pass


def test_a_profile_that_does_not_fit_fails_at_once(
    ray_session: Profile, features: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    where = ["--recipe", "house-thumbnail", "--features", features, "--out", str(tmp_path / "bundle")]
    assert run(train.command, [*where, "--training.batch_size", "4", "--profile", "gpu-node"]) == 1
    assert re.search(r"\bgpu-node\b.*\b1 GPU.*\b0\b", json.loads(capfd.readouterr().out)["error"])
    assert run(train.command, [*where, "--training.batch_size", "18", "--workers", "9"]) == 1
    assert re.search(r"\b9 training workers\b.*\b8 CPUs\b", json.loads(capfd.readouterr().out)["error"])


def test_what_an_autoscaler_may_start_counts(ray_session: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(GROWTH, "3x4+1")
        have = at_hand("the cluster")
    assert (have.cpus, have.gpus, have.decoder_cpus) == (20, 3, 8)
    profile = choose("decoders-and-gpus", have, 3)
    assert profile.train_workers == 3
    assert profile.train_cpus <= 4
    with pytest.raises(ResourceError, match=r"\b4 training workers\b.*\bGPU\b.*\b3\b"):
        choose("decoders-and-gpus", have, 4)
    assert at_hand("the cluster").gpus == 0
