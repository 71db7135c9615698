"""infra/schedules/night, run as cron would: a whole night, and a second one at the same time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc.datasets.synthetic import SyntheticConfig, encode, plan_corpus
from tests.support.ray_head import RayHead

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[2]
NIGHT = ROOT / "infra" / "schedules" / "night"


@pytest.fixture
def environment(ray_head: RayHead, tmp_path: Path) -> dict[str, str]:
    """Where the script finds this checkout's mgc, a lock of its own, and a folder for what the night leaves behind."""
    program = tmp_path / "bin" / "mgc"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m pipelines.cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "left").mkdir()
    return {
        **os.environ,
        "RAY_ADDRESS": ray_head.address,
        "PYTHONWARNINGS": "default",
        "MGC_BIN": str(program.parent),
        "MGC_LOCK": str(tmp_path / "lock"),
        "MGC_JOB_METRICS": str(tmp_path / "left"),
    }


def night(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(NIGHT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


def test_a_night(environment: dict[str, str], tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    config = SyntheticConfig(shortest_seconds=4, longest_seconds=4, damaged_tracks=0)
    (music / "one.mp3").write_bytes(encode(plan_corpus(config)[0]))
    labels = str(tmp_path / "labels")
    done = night(environment, str(music), labels)
    assert done.returncode == 0, done.stderr
    assert LabelsTable(Uri.parse(labels)).dataset().count_rows() == 1
    left = sorted(path.name for path in (tmp_path / "left").iterdir())
    assert left == ["mgc_catalog.prom", "mgc_catalog_success.prom", "mgc_label.prom", "mgc_label_success.prom"]
    # A source that is gone: the night fails, and is known to have.
    broken = night(environment, str(tmp_path / "nothing"), labels)
    assert broken.returncode == 1
    assert 'mgc_job_exit_code{name="catalog"} 1.0' in (tmp_path / "left" / "mgc_catalog.prom").read_text()


def test_two_nights_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    with Path(environment["MGC_LOCK"]).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert night(environment, "music", "labels").returncode == 75
    assert night(environment, "music").returncode == 2


def test_alarms_may_be_no_failure(environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "bin" / "mgc"
    program.write_text('#!/bin/sh\n[ "$1" = catalog ] || exit 3\n')
    assert night(environment, "music", "labels").returncode == 3
    assert night({**environment, "MGC_ALARMED": "0"}, "music", "labels").returncode == 0


@pytest.mark.parametrize("word", ["catalog", "label"])
def test_a_refusal_may_be_no_failure(word: str, environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "bin" / "mgc"
    ran = tmp_path / "ran"
    program.write_text(f'#!/bin/sh\necho "$1" >>{ran}\n[ "$1" != {word} ] || exit 4\n')
    assert night(environment, "music", "labels").returncode == 4
    assert ran.read_text().split()[-1] == word
    assert night({**environment, "MGC_REFUSED": "0"}, "music", "labels").returncode == 0
