"""`mgc learn` killed at each of its steps, and twice at once: the labels are those of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mgc.bundle import load_bundle
from tests.jobs.learning.test_learn_job import BRIGHT, DARK, write
from tests.support.ray_head import RayHead

pytestmark = [pytest.mark.cluster, pytest.mark.drill]


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    for number in range(12):
        dark = number % 2 == 1
        write(folder / f"{number:02}.flac", number, None if number >= 10 else (DARK if dark else BRIGHT), dark)
    return folder


def start(music: Path, out: Path, head: RayHead) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines.learn", str(music), "--out", str(out), "--bundle", "shipped"]
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "RAY_ADDRESS": head.address},
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def labels(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "labels.parquet").to_pylist()  # type: ignore[no-any-return]


def test_killed_at_each_step(music: Path, ray_head: RayHead, tmp_path: Path) -> None:
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    finish(start(music, undisturbed, ray_head))
    for step in (1, 2, 3, 4):
        process = start(music, out, ray_head)
        assert process.stderr is not None
        for line in process.stderr:
            if f"[{step}/4]" in line:
                break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (out / "labels.parquet").exists()
    finish(start(music, out, ray_head))
    assert labels(out) == labels(undisturbed)
    assert load_bundle(out / "bundle").id == load_bundle(undisturbed / "bundle").id


def test_twice_at_once(music: Path, ray_head: RayHead, tmp_path: Path) -> None:
    """One may refuse in one line; what lies there is whole, and complete after one more run."""
    out = tmp_path / "out"
    both = [start(music, out, ray_head) for _ in range(2)]
    ends = [(process.communicate(timeout=300)[1], process.returncode) for process in both]
    assert 0 in [code for _, code in ends], ends
    assert all("Traceback" not in said for said, _ in ends), ends
    finish(start(music, out, ray_head))
    rows = labels(out)
    assert [row["genre_top"] for row in rows] == ["Jazz", "Hip-Hop"] * 6
    load_bundle(out / "bundle")


def test_inside_the_music(music: Path, ray_head: RayHead) -> None:
    """What learn writes into the folder that it reads is no music, so the next run finds nothing new."""
    out = music / "learned"
    finish(start(music, out, ray_head))
    before = labels(out)
    again = start(music, out, ray_head)
    printed, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert '"up_to_date"' in printed.splitlines()[-1]
    assert labels(out) == before
