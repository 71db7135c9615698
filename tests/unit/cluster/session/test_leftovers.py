"""Which folders of Ray's a job deletes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from cluster.session import ray_internals
from cluster.session.local.leftovers import KEEP_SECONDS, delete_old_sessions, delete_session


def session(folder: Path, name: str, age_seconds: float) -> Path:
    """A session in which something was last written some time ago."""
    made = folder / f"session_{name}"
    (made / "logs").mkdir(parents=True)
    (made / "logs" / "raylet.out").touch()
    at = time.time() - age_seconds
    for path in (made / "logs" / "raylet.out", made / "logs", made):
        os.utime(path, (at, at))
    return made


def test_old_sessions_that_nobody_uses_are_deleted(tmp_path: Path) -> None:
    week = KEEP_SECONDS + 60
    old, used, young = session(tmp_path, "old", week), session(tmp_path, "used", week), session(tmp_path, "young", 60)
    talkative = session(tmp_path, "talkative", week)
    os.utime(talkative / "logs" / "raylet.out")
    with subprocess.Popen([sys.executable, "-c", "input()", str(used / "sockets")], stdin=subprocess.PIPE) as process:
        delete_old_sessions(tmp_path)
        process.kill()
    assert not old.exists()
    assert all(path.exists() for path in (used, young, talkative))
    delete_old_sessions(tmp_path / "nothing here")


def test_the_links_to_a_session_go_with_it(tmp_path: Path) -> None:
    first, second = session(tmp_path, "a", 0), session(tmp_path, "b", 0)
    links = (tmp_path / ray_internals.LATEST_SESSION, ray_internals.prometheus_targets(tmp_path))
    links[0].symlink_to(second)
    links[1].symlink_to(ray_internals.prometheus_targets(second))
    delete_session(first)
    assert all(link.is_symlink() for link in links)
    delete_session(second)
    assert list(tmp_path.iterdir()) == []
