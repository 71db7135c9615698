"""`ray job submit --working-dir . -- python -m pipelines.X` against a real head."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc.bundle import load_bundle
from mgc.datasets.synthetic import SyntheticConfig, encode, plan_corpus
from tests.support import tiny_features
from tests.support.ray_head import RayHead

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[2]


def submit(head: RayHead, *entrypoint: str) -> subprocess.CompletedProcess[str]:
    """Submit and follow to the end."""
    ray = Path(sys.executable).with_name("ray")
    return subprocess.run(
        [ray, "job", "submit", "--address", head.jobs_url, "--working-dir", ".", "--", *entrypoint],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token"), "PYTHONWARNINGS": "default"},
        check=False,
    )


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Two real MP3s and a file that is none."""
    folder = tmp_path / "music"
    folder.mkdir()
    small = SyntheticConfig(
        largest_genre_tracks=3, smallest_genre_tracks=3, shortest_seconds=4, longest_seconds=4, damaged_tracks=0
    )
    for number, plan in enumerate(plan_corpus(small)[:2]):
        (folder / f"{number}.mp3").write_bytes(encode(plan))
    (folder / "broken.mp3").write_bytes(b"no music at all")
    return folder


def test_a_submitted_job_labels_a_folder(ray_head: RayHead, music: Path, tmp_path: Path) -> None:
    """And refuses a relative path: a job's folder is a copy that goes with it."""
    labels = tmp_path / "labels"
    word = f"python -m pipelines.label {shlex.quote(str(music))} --labels"
    done = submit(ray_head, "sh", "-c", f"{word} labels || {word} {shlex.quote(str(labels))}")
    assert done.returncode == 0, done.stdout + done.stderr
    (job_id,) = set(re.findall(r"raysubmit_\w+", done.stdout))
    log = JobSubmissionClient(ray_head.jobs_url).get_job_logs(job_id)
    # Nothing of Ray's in it but its two lines at the beginning, and warnings for programmers, which this head asks for.
    own = [line for line in log.splitlines() if "INFO job_manager.py" not in line and "Running entrypoint" not in line]
    assert not [
        line
        for line in own
        if re.search(r"\x1b\[|(?<!Deprecation)Warning: |\(raylet|\(pid=|Ignoring upload| -- ", line)
    ], log
    refused, facts = (json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"job": "label"'))
    assert refused["status"] == "failed"
    assert "is relative" in refused["error"]
    assert facts["counts"]["labeled"] == 2
    assert facts["counts"]["quarantined"] == 1
    rows = {row["track_id"]: row for row in LabelsTable(Uri.of_path(labels)).dataset().to_table().to_pylist()}
    assert rows["broken.mp3"]["error_kind"] == "not_audio"


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_features.write(tmp_path_factory.mktemp("features"))


def training(features: str, out: Path, *fields: str) -> list[str]:
    return [
        "python", "-m", "pipelines.train", "--recipe", "house", "--features", features, "--out", str(out),
        "--workers", "2", "--front_end.n_mels", "16", "--front_end.clip_seconds", "1.0", "--front_end.frames", "32",
        "--model.channels", "4,6", "--model.blocks", "0", "--training.epochs", "1", "--training.batch_size", "8",
        "--training.precision", "float32", *fields,
    ]  # fmt: skip


@pytest.mark.drill
def test_a_submitted_training_is_followed_to_its_bundle(ray_head: RayHead, features: str, tmp_path: Path) -> None:
    done = submit(ray_head, *training(features, tmp_path / "bundle"))
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "training house: " in said
    assert re.search(r"best epoch\W+1\b.*accuracy", said)
    facts = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"job": "train"'))
    assert facts["status"] == "done"
    assert load_bundle(tmp_path / "bundle").training.made_with.workers == 2


@pytest.mark.drill
def test_a_submitted_training_that_fails_says_why_and_has_its_exit_code(
    ray_head: RayHead, features: str, tmp_path: Path
) -> None:
    """The loss is not finite on two workers: one line with tracks, and no bundle."""
    wild = ["--training.optimizer", "sgd", "--training.learning_rate", "10", "--training.l2", "10"]
    failed = submit(ray_head, *training(features, tmp_path / "bundle", *wild))
    assert failed.returncode == 1
    said = failed.stdout + failed.stderr
    # What is followed, and the end of the log once more where Ray says that the job failed.
    (line,) = {line for line in said.splitlines() if line.startswith("python -m pipelines.train: ")}
    assert re.search(r"loss.* (inf|nan) .*epoch 1, step \d+ \(.*t\d\d", line)
    (job_id,) = set(re.findall(r"raysubmit_\w+", said))
    details = JobSubmissionClient(ray_head.jobs_url).get_job_info(job_id)
    assert (details.status, details.driver_exit_code) == ("FAILED", 1)
    assert not (tmp_path / "bundle" / "experiment.json").exists()
