"""`make dist`: what a wheel and a source distribution hold, and that chance has no part in them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from infra import dist

pytestmark = pytest.mark.skipif(not (dist.ROOT / ".git").exists(), reason="no checkout of git")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return dist.build(tmp_path_factory.mktemp("dist"))


@pytest.mark.drill
def test_the_same_commit_gives_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    again = dist.build(tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


def test_they_hold_what_is_tracked_of_the_packages(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    tracked = dist._git("ls-files", "mgc", "cluster", "tune", "pipelines").splitlines()
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        assert {name for name in names if ".dist-info/" not in name} == set(tracked)
        assert any(name.endswith("LICENSE-WEIGHTS.md") for name in names)
    with tarfile.open(sdist) as files:
        members = files.getmembers()
    assert {(each.uid, each.gid, each.uname, each.gname) for each in members} == {(0, 0, "", "")}
    assert {member.name.partition("/")[2] for member in members} >= {
        *tracked,
        "pyproject.toml",
        "PKG-INFO",
        "README.md",
    }


@pytest.mark.drill
def test_an_installed_wheel_labels_a_file_far_from_the_checkout(built: tuple[Path, Path], tmp_path: Path) -> None:
    """What the checkout alone has, such as a file that package-data forgets, would be missing here."""
    site, song = tmp_path / "site", tmp_path / "music" / "song.wav"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(built[1])], check=True)
    tone = (
        "import numpy as np, soundfile, sys; rng = np.random.default_rng(0); "
        "soundfile.write(sys.argv[1], np.cumsum(rng.normal(0, 0.01, (22050 * 5, 1)), 0) % 1 - 0.5, 22050)"
    )
    song.parent.mkdir()
    subprocess.run([sys.executable, "-c", tone, str(song)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "MGC_OFFLINE": "1"}
    for words in (
        [
            "-c",
            f"import mgc, cluster, tune; assert all(str(m.__file__).startswith({str(site)!r}) for m in (mgc, tune))",
        ],
        ["-m", "pipelines.cli", "label", "music", "--labels", "labels", "--bundle", "shipped"],
        ["-m", "pipelines.cli", "labels", "export", "labels", "--format", "csv", "--out", "labels.csv"],
        ["-m", "pipelines.cli", "recipes"],
    ):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "song.wav" in (tmp_path / "labels.csv").read_text()
