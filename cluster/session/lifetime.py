"""With what this process ends: a command with its job, a worker of Ray with its node."""

from __future__ import annotations

import os
from pathlib import Path

from cluster.session import ray_internals
from mgc.lifeline import die_with_parent

_ends_with_job = False


def end_with_job() -> None:
    """State that this process ends as soon as its job has ended and said how."""
    global _ends_with_job
    _ends_with_job = True


def ends_with_job() -> bool:
    """Return whether this process ends with its job. A notebook and a test go on."""
    return _ends_with_job


def end_with_node() -> None:
    """Let the kernel kill this process when its node's raylet ends. Outside a worker of Ray, do nothing.

    Ray's workers see that their raylet is gone and end by themselves. But one that hangs at that moment, as Ray's core
    may when it ends, would stay with its memory and its cells.
    """
    try:
        parent = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        # No Linux, or the raylet is gone already.
        return
    if ray_internals.RAYLET in parent:
        die_with_parent()
