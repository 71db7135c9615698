"""The folders that Ray leaves behind: a session for each local Ray, with its logs. Ray itself never deletes them."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Final

from cluster.session import ray_internals

KEEP_SECONDS: Final = 7 * 24 * 3600.0
"""Time for which the logs of a job that failed stay."""


def delete_session(session: Path) -> None:
    """Delete the folder of a session that has ended."""
    for link in (session.parent / ray_internals.LATEST_SESSION, ray_internals.prometheus_targets(session.parent)):
        with contextlib.suppress(FileNotFoundError):
            # Another session may have taken it over.
            if link.is_symlink() and session.name in link.readlink().parts:
                link.unlink()
    # A process of it may still be writing its last line.
    shutil.rmtree(session, ignore_errors=True)


def delete_old_sessions(folder: Path) -> None:
    """Delete the sessions of this user in which nothing was written for a week and that no process uses.

    Args:
        folder: folder of Ray's sessions.
    """
    sessions = [path for path in folder.glob(ray_internals.SESSIONS) if path.is_dir() and not path.is_symlink()]
    before = time.time() - KEEP_SECONDS
    old = [path for path in sessions if path.stat().st_uid == os.getuid() and _written(path) < before]
    used = _commands() if old else ""
    for session in old:
        if session.name not in used:
            delete_session(session)


def _written(session: Path) -> float:
    """Return when something was last written in a session, in seconds since 1970."""
    times = [session.stat().st_mtime]
    for path in (session / "logs").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def _commands() -> str:
    """Return the command lines of all processes. Those of Ray name their session."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(file.read_text(errors="replace"))
    return "\n".join(lines)
