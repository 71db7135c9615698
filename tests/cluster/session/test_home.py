"""A local Ray starts without a home directory, as a container's user often has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
WITHOUT_RAY = """
import json, os
from cluster.session.local.home import do_without_home
do_without_home()
print(json.dumps({name: os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "NUMBA_CACHE_DIR", "MPLCONFIGDIR")}))
"""
WITH_RAY = """
import json, os, ray
from cluster.session import ray_internals
from cluster.session.connect import connect
with connect() as profile:
    session = str(ray_internals.session_folder())
    found = ray.get(ray.remote(lambda: os.environ["NUMBA_CACHE_DIR"]).options(num_cpus=0).remote())
print(json.dumps({"cores": profile.cores, "cache": found, "session": session}))
"""


def told(program: str, home: Path | str) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "NUMBA_", "MPL"))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment | {"HOME": str(home)}, cwd=ROOT, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_a_usable_home_is_used(tmp_path: Path) -> None:
    assert set(told(WITHOUT_RAY, tmp_path).values()) == {None}
    assert (tmp_path / ".ray").is_dir()


def test_a_home_in_which_ray_can_keep_nothing(tmp_path: Path) -> None:
    (tmp_path / ".ray").write_text("a file")
    said = told(WITHOUT_RAY, tmp_path)
    assert len(said["RAY_AUTH_TOKEN"]) >= 32
    assert said["NUMBA_CACHE_DIR"] is None


@pytest.mark.cluster
def test_ray_starts_without_a_home() -> None:
    said = told(WITH_RAY, "/proc/nohome")
    assert said["cores"] >= 1
    assert said["cache"]
    assert not Path(said["cache"]).exists()
    # Nor do the logs of Ray stay after work that was done.
    assert "session_" in said["session"]
    assert not Path(said["session"]).exists()
