"""Errors of the machine and the cluster, in one line each."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from ray.exceptions import OutOfMemoryError, RayTaskError, RpcError, WorkerCrashedError

from cluster.session.causes import explain_cause, killed_workers_line
from cluster.session.ray_internals import KilledWorker


def line(error: BaseException) -> str:
    found = explain_cause(error)
    assert found is not None
    assert len(found.splitlines()) == 1
    return found


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named(number: int, tmp_path: Path) -> None:
    full = OSError(number, os.strerror(number), str(tmp_path / "spill.tmp"))
    assert str(tmp_path) in line(full)
    assert "TMPDIR" in line(full)
    wrapped = RayTaskError("work", "Traceback (most recent call last):\n  ...\n", full)
    assert str(tmp_path) in line(wrapped)


def test_a_full_disk_that_a_library_only_quotes() -> None:
    assert "TMPDIR" in line(RuntimeError("IO Error: could not write\nto file: No space left on device"))


def test_no_usable_temporary_folder() -> None:
    nowhere = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/a', '/tmp']")
    assert "/a" in line(nowhere)


def test_memory_names_the_node() -> None:
    told = (
        "Memory on the node (IP: 10.0.0.7, ID: 3c3b) was 6.88GB used / 7.24GB limit (0.95)\nOOM kill reason: Memory …"
    )
    assert "10.0.0.7" in line(OutOfMemoryError(told))
    assert "7.24GB" in line(OutOfMemoryError(told))
    assert "memory" in line(WorkerCrashedError())
    assert "memory" in line(MemoryError())


def test_killed_workers_are_counted_by_node() -> None:
    killed = [KilledWorker("10.0.0.7", True)] * 4 + [KilledWorker("10.0.0.8", False)]
    assert "4 on node 10.0.0.7" in killed_workers_line(killed)
    assert "dmesg" in killed_workers_line(killed[4:])


def test_another_mgc_and_a_lost_head() -> None:
    assert "mgc.software" in line(ModuleNotFoundError("No module named 'mgc.software'"))
    assert "ray status" in line(RpcError("failed to connect", 14))


def test_a_bug_has_no_such_cause() -> None:
    assert explain_cause(ValueError("3 is not 4")) is None
    assert explain_cause(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
