"""What goes wrong gives one clear line, a non-zero exit code, and leaves the committed labels table as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.labels.table import LabelsTable
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.datasets.synthetic import SyntheticConfig, encode, plan_corpus
from mgc.features.front_end import build_front_end
from mgc.features.normalization import Normalization
from mgc.models.architecture import build_model
from mgc.models.house import HouseCnnConfig
from mgc.recipes.house import house
from mgc.taxonomy import Taxonomy
from pipelines import catalog, label, prepare, show, train
from pipelines.command.job import run
from pipelines.command.options import overrides
from tests.support.ray_head import RayHead

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short MP3s."""
    folder = tmp_path_factory.mktemp("music")
    small = SyntheticConfig(
        largest_genre_tracks=3, smallest_genre_tracks=3, shortest_seconds=4, longest_seconds=4, damaged_tracks=0
    )
    for number, plan in enumerate(plan_corpus(small)[:6]):
        (folder / f"{number}.mp3").write_bytes(encode(plan))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, which is enough to label."""
    experiment = house().override({"model.channels": "8,16"})
    shape = build_front_end(experiment.front_end).shape
    taxonomy = Taxonomy.flat(["folk", "rock"])
    model = build_model(HouseCnnConfig(channels=(8, 16)), shape, 2)
    folder = tmp_path_factory.mktemp("bundle")
    Bundle(experiment, taxonomy, Normalization((100.0,) * 128, (50.0,) * 128), model.eval()).save(folder)
    return folder


def refused(capsys: pytest.CaptureFixture[str], command: Any, *arguments: str, code: int = 1) -> str:
    """The job's one line on stderr; the summary says the same."""
    assert run(command, arguments) == code
    printed = capsys.readouterr()
    facts = json.loads(printed.out.splitlines()[-1])
    assert facts["status"] == "failed"
    lines = [line for line in printed.err.splitlines() if line.startswith("mgc ")]
    assert len(lines) == 1, printed.err
    assert "Traceback" not in printed.err
    assert facts["error"] in lines[0]
    return lines[0]


def test_a_missing_bucket(s3_environment: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, catalog.command, "s3://no-such-bucket-here/music", "--out", str(tmp_path / "c"))
    assert "no-such-bucket-here" in line
    line = refused(capsys, show.command, "s3://no-such-bucket-here/labels")
    assert "no-such-bucket-here" in line


def test_wrong_credentials(
    bucket_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-at-all")
    line = refused(capsys, catalog.command, bucket_uri, "--out", str(tmp_path / "c"))
    assert "credential" in line.lower() or "AWS_" in line
    assert "not-the-secret-at-all" not in line


def test_an_unknown_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(
        capsys, train.command, "--recipe", "huose", "--features", str(tmp_path), "--out", str(tmp_path / "b"), code=2
    )
    assert "huose" in line
    assert "house" in line


def test_a_wrong_field_or_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--features", str(tmp_path), "--out", str(tmp_path / "b")]
    assert "training.epochs" in refused(capsys, train.command, *arguments, "--training.epoch", "3", code=2)
    assert "training.epochs" in refused(capsys, train.command, *arguments, "--training.epochs", "three", code=2)
    assert "--nonsense" in refused(capsys, train.command, *arguments, "--nonsense", "3", code=2)
    assert overrides(["--a.b=1", "--c.d", "2"]) == {"a.b": "1", "c.d": "2"}


def test_a_catalog_without_the_needed_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = str(tmp_path / "c.parquet")
    pq.write_table(pa.table({"track_id": ["a"], "genre_top": ["Rock"]}), uri)
    line = refused(capsys, prepare.command, uri, "--out", str(tmp_path / "f"))
    assert "size_bytes" in line
    assert uri in line


def test_a_corrupt_bundle(music: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "bundle"
    files.copy_tree(Uri.of_path(bundle), Uri.of_path(broken))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    line = refused(capsys, label.command, str(music), "--bundle", str(broken), "--labels", str(tmp_path / "l"))
    assert "corrupt" in line
    line = refused(
        capsys, label.command, str(music), "--bundle", str(tmp_path / "none"), "--labels", str(tmp_path / "l")
    )
    assert "none" in line


def test_no_audio_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cover.jpg").write_bytes(b"x")
    assert "no audio" in refused(capsys, catalog.command, str(tmp_path), "--out", str(tmp_path / "c"))


def test_a_full_disk_leaves_the_table(
    ray_session: Profile, music: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The labels lie on a small disk that fills up between two nights; the first has a limit, the rest is pending."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("a small disk can only be mounted by root")
    try:
        labels = str(disk / "labels")
        assert run(label.command, [str(music), "--bundle", str(bundle), "--labels", labels, "--limit", "3"]) == 0
        before = LabelsTable(Uri.parse(labels)).dataset().to_table()
        facts = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (facts["status"], facts["counts"]["pending"], before.num_rows) == ("partial", 3, 3)
        free = os.statvfs(disk)
        (disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize))
        line = refused(capsys, label.command, str(music), "--bundle", str(bundle), "--labels", labels)
        assert "full" in line or "No space" in line
        assert LabelsTable(Uri.parse(labels)).version == 0
        assert LabelsTable(Uri.parse(labels)).dataset().to_table().equals(before)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_interrupted_job_goes_on(
    ray_head: RayHead, ray_session: Profile, music: Path, bundle: Path, tmp_path: Path
) -> None:
    """Killed by a signal before its commit: no table. The same command again finishes."""
    labels = tmp_path / "labels"
    arguments = [str(music), "--bundle", str(bundle), "--labels", str(labels)]
    environment = {**os.environ, "RAY_ADDRESS": ray_head.address, "PYTHONWARNINGS": "default"}
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.label", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not list(labels.glob("_runs/*/plan.parquet")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert json.loads(out.splitlines()[-1])["status"] == "interrupted"
    assert "interrupted" in err
    assert not LabelsTable(Uri.of_path(labels)).exists
    assert run(label.command, arguments) == 0
    assert LabelsTable(Uri.of_path(labels)).dataset().count_rows() == 6
    assert not list(labels.glob("_runs/*"))
