"""What a decoder that was taken over cannot do."""

from __future__ import annotations

import os
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


def test_nothing_of_the_caller_is_open_or_inherited(cell: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the caller's secret")
    secret, tunnel = os.pipe()
    os.set_inheritable(tunnel, True)
    try:
        with Isolated(TakenOver, {"HOME": "/nowhere"}) as isolated:
            assert isolated.closed
            for pid in descendants(os.getpid())[1:]:
                assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
                opened = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
                assert str(Path(f"/proc/self/fd/{tunnel}").readlink()) not in opened
            # The cell, the last one, has nothing but its conversation.
            assert {each.partition(":")[0] for each in opened} == {"/dev/null", "socket"}
    finally:
        os.close(secret)
        os.close(tunnel)
