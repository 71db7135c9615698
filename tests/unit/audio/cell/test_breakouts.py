"""What a decoder that was taken over cannot do."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.session.local_cluster import descendants
from mgc.audio.cell.doors import Door
from mgc.audio.cell.isolated import Isolated
from mgc.audio.cell.messages import Task
from tests.unit.audio.cell.breakouts import ATTEMPTS, TakenOver

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no doors to close")


@pytest.fixture(scope="module")
def cell() -> Iterator[Isolated]:
    with Isolated(TakenOver) as opened:
        assert Door.CALLS in opened.closed
        yield opened


@pytest.mark.parametrize("name", ATTEMPTS)
def test_no_way_out(cell: Isolated, name: str) -> None:
    before = descendants(os.getpid())
    answer = cell(Task(f"{name}:{os.getpid()}".encode(), b""), 30)
    assert not answer.startswith(b"out")
    assert descendants(os.getpid()) == before


def test_nothing_of_the_caller_is_open() -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    try:
        with Isolated(TakenOver) as isolated:
            assert isolated.closed
            pipe = Path(f"/proc/self/fd/{theirs}").readlink()
            for pid in descendants(isolated._warden._process.pid):
                opened = [each.readlink() for each in Path(f"/proc/{pid}/fd").iterdir()]
                assert pipe not in opened
            # The cell, the last one, has nothing but its conversation.
            assert sorted(str(each).partition(":")[0] for each in opened) == [*["/dev/null"] * 3, "socket"]
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of other processes")
def test_nothing_of_the_caller_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secrets.token_hex(32)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with Isolated(TakenOver, {"HOME": "/nowhere"}) as isolated:
        assert isolated.closed
        below = descendants(isolated._warden._process.pid)
        assert holds(os.getpid(), secret.encode())
        assert [pid for pid in below if holds(pid, secret.encode())] == []
        assert all(holds(pid, b"/nowhere") for pid in below)


def holds(pid: int, wanted: bytes) -> bool:
    """Return whether the writable memory of a process, with its environment, holds some bytes."""
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if rights.startswith("rw"):
                begin, end = (int(each, 16) for each in place.split("-"))
                memory.seek(begin)
                if wanted in memory.read(end - begin):
                    return True
    return False
