"""Of two runs on one table, the second is refused before it hears anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.labels.beside import lease as module
from cluster.labels.beside.lease import lease
from cluster.storage.uri import Uri
from mgc.errors import LabelsError

HOLD = """
import sys, time
from cluster.labels.beside.lease import lease
from cluster.storage.uri import Uri
with lease(Uri.parse(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def table(tmp_path: Path) -> Uri:
    return Uri.of_path(tmp_path / "labels")


@pytest.fixture
def other(table: Uri) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lease."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(table)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_while_the_first_lives(table: Uri, other: subprocess.Popen[str]) -> None:
    with pytest.raises(LabelsError, match=rf"labels: .*process {other.pid} on "), lease(table):
        pytest.fail("both hold the lease")
    # A killed run has given nothing back, and the next one need not wait for it.
    other.kill()
    other.wait()
    assert (table / "_lease.json").local.exists()
    with lease(table):
        assert json.loads((table / "_lease.json").local.read_text())["holder"]["pid"] == os.getpid()
    assert not (table / "_lease.json").local.exists()


def test_a_stopped_run_holds_nothing_up(table: Uri, other: subprocess.Popen[str]) -> None:
    """A laptop sleeps, somebody pressed Ctrl-Z. What it heard is refused at its commit if it goes on."""
    other.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, other.pid, os.WSTOPPED)
    with lease(table):
        assert json.loads((table / "_lease.json").local.read_text())["holder"]["pid"] == os.getpid()


def elsewhere(table: Uri, beat: int) -> None:
    """The lease of a run on another machine."""
    holder = {"run": "r", "host": "far", "place": "another boot", "pid": 1, "began": "1"}
    module._write(table / "_lease.json", module._Holder(**holder), beat)  # type: ignore[arg-type]


def test_the_lease_of_another_machine_is_void_when_it_stands_still(
    table: Uri, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    elsewhere(table, 3)
    with lease(table):
        assert "far" in capsys.readouterr().err
    real, beats = module._read, iter(range(4, 100))

    def read_and_beat(uri: Uri) -> Any:
        found = real(uri)
        elsewhere(table, next(beats))
        return found

    elsewhere(table, 3)
    monkeypatch.setattr(module, "_read", read_and_beat)
    with pytest.raises(LabelsError, match="process 1 on far"), lease(table):
        pytest.fail("both hold the lease")


@pytest.mark.parametrize("text", ["", "[]", '{"holder": {}}', '{"beat": 1}', '{"holder": {"run": 1}, "beat": 1}'])
def test_a_damaged_lease_holds_nothing(text: str, table: Uri) -> None:
    table.local.mkdir()
    (table / "_lease.json").local.write_text(text)
    with lease(table):
        pass


def test_the_holder_writes_its_lease_anew(table: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    with lease(table):
        while json.loads((table / "_lease.json").local.read_text())["beat"] < 2:
            pass


def test_what_another_run_has_taken_is_not_given_back(table: Uri) -> None:
    with lease(table):
        elsewhere(table, 0)
    assert json.loads((table / "_lease.json").local.read_text())["holder"]["host"] == "far"
