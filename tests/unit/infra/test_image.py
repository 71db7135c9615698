"""What infra/docker/Dockerfile makes, step by step in a bare Debian root: it builds, and its night labels a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc.datasets.synthetic import SyntheticConfig, encode, plan_corpus
from pipelines.cli import JOBS
from tests.unit.infra import bare_root

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(bare_root.MISSING), reason=f"a bare root needs {', '.join(bare_root.MISSING)}"),
]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def image() -> Iterator[bare_root.Stage]:
    """The stage `cpu`. Some 15 GB, which do not stay."""
    with tempfile.TemporaryDirectory(prefix="mgc-image-") as folder:
        wheels = Path(folder, "wheels")
        locked = Path(folder, "run.lock")
        lock = (ROOT / "requirements.lock").read_text()
        locked.write_text(lock.partition("# Only checks and tests")[0])
        # By this machine's own settings of pip, which the root does not get to see.
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary", ":all:",
             "--no-deps", "--requirement", str(locked), "--dest", str(wheels)],
            check=True,
        )  # fmt: skip
        yield bare_root.build(ROOT / "infra" / "docker" / "Dockerfile", "cpu", ROOT, Path(folder), wheels)


def test_the_image_has_what_the_lock_names_and_the_programs_of_its_node(image: bare_root.Stage) -> None:
    found = image.run("id --user; python3 --version; pip check; pip list --format freeze; which ps rsync ssh wget")
    assert found.returncode == 0, found.stdout + found.stderr
    user, python, whole, *rest = found.stdout.splitlines()
    assert (user, whole) == ("1000", "No broken requirements found.")
    names = {line.partition("==")[0].lower().replace("_", "-") for line in rest if "==" in line}
    lock = (ROOT / "requirements.lock").read_text().partition("# Only checks and tests")[0]
    version = python.removeprefix("Python ")
    environment = {"python_full_version": version, "python_version": version.rpartition(".")[0]}
    lines = re.findall(r"^[\w.-]+==.*?(?= \\$)", lock, re.MULTILINE)
    asked = [each for each in map(Requirement, lines) if each.marker is None or each.marker.evaluate(environment)]
    assert names == {"mgc", "pip", *(each.name.lower().replace("_", "-") for each in asked)}
    assert [line for line in rest if line.startswith("/")] == [
        "/usr/bin/ps", "/usr/bin/rsync", "/usr/bin/ssh", "/usr/bin/wget",
    ]  # fmt: skip


def test_every_job_of_the_image_says_what_it_takes(image: bare_root.Stage) -> None:
    done = image.run(f"for job in {' '.join(JOBS)}; do mgc $job --help >/dev/null || echo $job; done")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_night_of_the_image_labels_a_folder(image: bare_root.Stage) -> None:
    """As the image's user, who can write nothing but its home and /tmp."""
    music = image.root / "srv" / "music"
    music.mkdir()
    small = SyntheticConfig(shortest_seconds=4, longest_seconds=4, damaged_tracks=0)
    for number, plan in enumerate(plan_corpus(small)[:3]):
        (music / f"{number}.mp3").write_bytes(encode(plan))
    (music / "none.mp3").write_bytes(b"no music at all" * 100)
    home = image.root / "home" / "ray"
    assert (home.stat().st_uid, os.access(home, os.W_OK)) == (1000, True)
    until = f"{datetime.now().astimezone() + timedelta(hours=2):%H:%M}"
    done = image.run(f"mgc-night /srv/music {image.folder}/labels", {"MGC_UNTIL": until})
    assert done.returncode == 0, done.stdout + done.stderr
    rows = LabelsTable(Uri.of_path(home / "labels")).dataset().to_table(columns=["track_id", "status"]).to_pylist()
    assert {row["track_id"]: row["status"] for row in rows} == {
        "0.mp3": "labeled", "1.mp3": "labeled", "2.mp3": "labeled", "none.mp3": "quarantined",
    }  # fmt: skip
