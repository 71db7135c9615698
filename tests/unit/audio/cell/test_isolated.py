"""A cell that hangs, dies or lies costs one call."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cluster.session.local_cluster import descendants, still_there
from mgc.audio.cell.isolated import Isolated
from mgc.audio.cell.messages import MOST_RANGES, MOST_READ_BYTES, MOST_TASK_BYTES, Task
from mgc.audio.source import ByteRange, Held
from mgc.errors import AudioError, ErrorKind, ResourceError
from tests.unit.audio.cell.works import Obedient, Unprepared

WORK = Task(b"work", b"")


@pytest.fixture(scope="module")
def isolated() -> Iterator[Isolated]:
    with Isolated(Obedient) as opened:
        yield opened


def test_every_end_of_the_cell_costs_one_call() -> None:
    with Isolated(Obedient) as isolated:
        assert isolated.facts == b"obedient"
        cell = isolated(WORK, 30)
        assert isolated(WORK, 30) == cell
        warden = isolated._warden._process.pid
        before = descendants(warden)
        for how, kind, words in (
            ("hang", ErrorKind.TIMEOUT, "more than 1 s"),
            ("abort", ErrorKind.DECODER_CRASH, "SIGABRT"),
            ("kill", ErrorKind.DECODER_CRASH, "SIGKILL"),
            ("exit", ErrorKind.DECODER_CRASH, "exit code 3"),
            ("raise", ErrorKind.DECODER_CRASH, "exit code 1"),
        ):
            with pytest.raises(AudioError, match=words) as caught:
                # On a busy machine only what hangs may run into its limit.
                isolated(Task(how.encode(), b""), 1 if how == "hang" else 30)
            assert caught.value.kind is kind
            other = isolated(WORK, 30)
            assert other != cell
            assert len(descendants(warden)) == len(before)
            cell = other
    assert still_there(before, 5) == []


def test_a_cell_keeps_the_memory_that_it_frees(isolated: Isolated) -> None:
    faults = [int(isolated(Task(b"take memory", b""), 30)) for _ in range(3)]
    # Pages of 4 KiB. Where glibc gives the four blocks back, most of their 16,384 are zeroed again.
    assert faults[2] - faults[1] < 1_000


def test_a_recording_crosses_whole(isolated: Isolated) -> None:
    data = os.urandom(3_000_000)
    assert isolated(Task(b"echo", data), 30) == data


def test_a_recording_that_is_too_large_is_not_handed_over(isolated: Isolated) -> None:
    cell = isolated(WORK, 30)
    with pytest.raises(AudioError) as caught:
        isolated(Task(b"echo", bytes(MOST_TASK_BYTES + 1)), 30)
    assert caught.value.kind is ErrorKind.TOO_LARGE
    assert isolated(WORK, 30) == cell


def test_the_caller_reads_the_source_for_the_cell(isolated: Isolated) -> None:
    assert isolated(Task(b"read", b"", Held(b"0123456789")), 30) == b"12" + b"23456789" + b"0"
    assert isolated(Task(b"read", b"", Held(b"")), 30) == b""


def test_long_reads_are_cut_to_what_may_be_asked_for(isolated: Isolated) -> None:
    data = os.urandom(2 * MOST_READ_BYTES + 5)
    seen: list[list[ByteRange]] = []

    class Watched(Held):
        def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
            seen.append(list(ranges))
            return super().read(ranges)

    assert isolated(Task(b"read", b"", Watched(data)), 60) == data[1:3] + data[2:] + data[:1]
    assert len(seen) > 2
    assert all(sum(piece.size_bytes for piece in ranges) <= MOST_READ_BYTES for ranges in seen)
    assert isolated(Task(b"read many", b"", Watched(data)), 60) == data[: 3 * MOST_RANGES]
    assert [len(ranges) for ranges in seen[-3:]] == [MOST_RANGES] * 3


def test_a_source_that_fails_in_the_caller_fails_in_the_cell(isolated: Isolated) -> None:
    class Failing(Held):
        def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
            raise AudioError(ErrorKind.FETCH_FAILED, "the line is cut \udcff")

    cell = isolated(WORK, 30)
    answer = isolated(Task(b"read", b"", Failing(b"0123")), 30)
    assert answer == b"fetch_failed: the line is cut \\udcff"
    assert isolated(WORK, 30) == cell


def test_a_source_with_a_fault_of_its_own_ends_the_cell(isolated: Isolated) -> None:
    """What was asked for is not answered, so the conversation cannot go on."""

    class Faulty(Held):
        def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
            raise ZeroDivisionError

    cell = isolated(WORK, 30)
    with pytest.raises(ZeroDivisionError):
        isolated(Task(b"read", b"", Faulty(b"0123")), 30)
    assert isolated(WORK, 30) != cell


def test_a_cell_gets_no_more_cpu_time_than_its_calls(isolated: Isolated) -> None:
    """A call with a longer limit than a cell has left gets a new one."""
    cell = isolated(WORK, 30)
    other = isolated(WORK, 1e6)
    assert other != cell
    assert isolated(WORK, 30) == other


def test_a_warden_that_was_killed_is_replaced() -> None:
    with Isolated(Obedient) as isolated:
        cell = isolated(WORK, 30)
        isolated._warden._process.kill()
        isolated._warden._process.wait()
        assert isolated(WORK, 30) == cell
        with pytest.raises(AudioError):
            isolated(Task(b"abort", b""), 30)
        assert isolated(WORK, 30) != cell


def test_a_function_that_cannot_be_set_up_is_no_fault_of_a_recording(capfd: pytest.CaptureFixture[str]) -> None:
    with Isolated(Unprepared) as isolated, pytest.raises(ResourceError):
        isolated(WORK, 30)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_hanging_cell_dies_with_its_caller(tmp_path: Path) -> None:
    """SIGKILL leaves the caller no time to tidy up."""
    script = tmp_path / "caller.py"
    script.write_text(
        textwrap.dedent(
            """
            from mgc.audio.cell.isolated import Isolated
            from mgc.audio.cell.messages import Task
            from tests.unit.audio.cell.works import Obedient

            isolated = Isolated(Obedient)
            isolated(Task(b"work", b""), 30)
            print("started", flush=True)
            isolated(Task(b"hang", b""), 600)
            """
        )
    )
    root = Path(__file__).parents[4]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "started\n"
        time.sleep(0.5)
        _, *below = descendants(caller.pid)
        # The warden, the cell's keeper, and the cell.
        assert len(below) == 3
        caller.kill()
    assert still_there(below, 10) == []
