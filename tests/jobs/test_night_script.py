"""infra/schedules/night, run as cron would: a whole night, and a second one at the same time."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
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
        "MGC_UNTIL": clock(hours=1),
    }


def clock(hours: float) -> str:
    """The time of day in some hours."""
    return f"{datetime.now() + timedelta(hours=hours):%H:%M}"


def night(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(NIGHT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


def assert_ended(line: str, code: int) -> None:
    """The last line of a night has the time and the exit code."""
    start, when, end = re.split(r"(\d{4}-\S+?)(?=: )", line)
    assert (start, end) == ("night: ", f": ended with exit code {code}")
    assert abs(datetime.now().astimezone() - datetime.fromisoformat(when)) < timedelta(hours=1)


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
        assert night({**environment, "MGC_SKIPPED": "0"}, "music", "labels").returncode == 0


def echoing(tmp_path: Path, code: int = 0) -> Path:
    """Let `mgc` note its words, and end with a code. Returns the file of the words, a line for each call."""
    noted = tmp_path / "noted"
    note = f'for word in "$@"; do printf "%s|" "$word"; done >>{noted}; echo >>{noted}'
    (tmp_path / "bin" / "mgc").write_text(f"#!/bin/sh\n{note}\nexit {code}\n")
    return noted


def test_options_go_to_the_job_that_they_are_for(environment: dict[str, str], tmp_path: Path) -> None:
    noted, until = echoing(tmp_path), clock(hours=2)
    own = ["--bundle", "a b", "--include", "*.mp3", "--alarm=flips=0.1", "--exclude=Talk/*", "--until", until]
    assert night(environment, "music", "labels/", *own).returncode == 0
    checked, listed, labelled = (line.split("|")[:-1] for line in noted.read_text().splitlines())
    assert listed == ["catalog", "music", "--out", "labels-catalog.parquet", "--include=*.mp3", "--exclude=Talk/*"]
    end = datetime.fromisoformat(labelled.pop(labelled.index("--until") + 1))
    assert labelled == [
        "label", "labels-catalog.parquet", "--labels", "labels", "--allow-root", "music", "--until", "--bundle", "a b",
        "--alarm=flips=0.1",
    ]  # fmt: skip
    own = ["--bundle", "a b", "--alarm=flips=0.1"]
    assert checked == ["label", "labels-catalog.parquet", "--labels", "labels", "--check", *own]
    # A point in time: listing may take until after it.
    assert timedelta(hours=1.9) < end - datetime.now().astimezone() <= timedelta(hours=2)
    assert f"{end:%H:%M}" == until


@pytest.mark.parametrize(("hours", "code"), [(-2, 75), (13, 75), (11, 0)])
def test_a_night_that_is_caught_up_by_day_does_not_begin(
    hours: float, code: int, environment: dict[str, str], tmp_path: Path
) -> None:
    noted = echoing(tmp_path)
    done = night(environment, "music", "labels", f"--until={clock(hours)}")
    assert done.returncode == code
    assert_ended(done.stderr.splitlines()[-1], code)
    assert noted.exists() == (code == 0)
    if code:
        done = night({**environment, "MGC_SKIPPED": "0"}, "music", "labels", f"--until={clock(hours)}")
        assert done.returncode == 0
        assert not noted.exists()


def test_a_listing_that_takes_all_night_is_an_alarm(environment: dict[str, str], tmp_path: Path) -> None:
    """While `mgc catalog` lists, the clock moves by two hours."""
    noted = echoing(tmp_path)
    late = tmp_path / "bin" / "date"
    late.write_text(
        f'#!/bin/sh\nif [ "$*" = +%s ] && grep -q ^catalog {noted}; then exec /usr/bin/date -d "2 hours" +%s; fi\n'
        'exec /usr/bin/date "$@"\n'
    )
    late.chmod(0o755)
    assert night(environment, "music", "labels").returncode == 3
    assert [line.split("|")[0] for line in noted.read_text().splitlines()] == ["label", "catalog"]


@pytest.mark.parametrize("words", [["music"], ["--until", "06:00"], ["music", "labels", "--until", "late"]])
def test_a_night_that_is_wrong(words: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    noted = echoing(tmp_path)
    assert night(environment, *words).returncode == 2
    assert not noted.exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--nonsense"], 2),
        (["--alarm", "flips=many"], 2),
        (["--bundle", "no/such/bundle"], 1),
    ],
)
def test_what_a_night_is_given_is_wrong_before_anything_is_listed(
    words: list[str], code: int, environment: dict[str, str], tmp_path: Path
) -> None:
    """The source is not even there."""
    done = night(environment, str(tmp_path / "music"), str(tmp_path / "labels"), *words)
    assert done.returncode == code
    line, end = done.stderr.splitlines()
    assert words[-1].partition("=")[0] in line
    assert_ended(end, code)
    left = sorted(path.name for path in (tmp_path / "left").iterdir())
    assert left == ["mgc_label.prom"]
    assert not (tmp_path / "labels").exists()


def test_alarms_may_be_no_failure(environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "bin" / "mgc"
    program.write_text('#!/bin/sh\n[ "$1" = catalog ] || [ "$5" = --check ] || exit 3\n')
    assert night(environment, "music", "labels").returncode == 3
    assert night({**environment, "MGC_ALARMED": "0"}, "music", "labels").returncode == 0


@pytest.mark.parametrize("word", ["catalog", "label"])
def test_a_refusal_may_be_no_failure(word: str, environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "bin" / "mgc"
    ran = tmp_path / "ran"
    program.write_text(f'#!/bin/sh\n[ "$5" != --check ] || exit 0\necho "$1" >>{ran}\n[ "$1" != {word} ] || exit 4\n')
    assert night(environment, "music", "labels").returncode == 4
    assert ran.read_text().split()[-1] == word
    assert night({**environment, "MGC_REFUSED": "0"}, "music", "labels").returncode == 0
