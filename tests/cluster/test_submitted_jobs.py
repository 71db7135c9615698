"""`ray job submit --working-dir . -- python -m pipelines.X` against a real head."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.labels_table import LabelsTable
from mgc.datasets.synthetic import SyntheticConfig, encode, plan_corpus
from tests.ray_head import RayHead

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
    refused, facts = (json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"job": "label"'))
    assert refused["status"] == "failed"
    assert "is relative" in refused["error"]
    assert facts["counts"]["labeled"] == 2
    assert facts["counts"]["quarantined"] == 1
    rows = {row["track_id"]: row for row in LabelsTable(str(labels)).dataset().to_table().to_pylist()}
    assert rows["broken.mp3"]["error_kind"] == "not_audio"
