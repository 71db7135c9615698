"""A job ended from outside: by a killed head or worker, a full disk, a person. One line, a summary, figures, a code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.session import ray_internals
from cluster.session.local_cluster import descendants, still_there
from cluster.storage.uri import Uri
from mgc.datasets.synthetic import SyntheticConfig, encode, plan_corpus
from pipelines.command.job import METRICS_SETTING
from tests.support.nights import held, night

pytestmark = [pytest.mark.cluster, pytest.mark.drill, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[3]
TRACKS = 400
"""So many that it still labels when its first line of progress comes, after ten seconds."""

BEGUN = "labeling: "
PATIENCE_SECONDS = 240.0


class Night:
    """A label job with a Ray of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        (folder / "music").mkdir()
        (folder / "figures").mkdir()
        files = [encode(plan) for plan in plan_corpus(SyntheticConfig(shortest_seconds=4, longest_seconds=4))[:8]]
        for number in range(TRACKS):
            (folder / "music" / f"{number:03}.mp3").write_bytes(files[number % 8])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.label", str(folder / "music"), "--labels", str(folder / "labels")],
                cwd=ROOT, stdout=out, stderr=err, start_new_session=True,
                env={**kept, "PYTHONWARNINGS": "ignore", METRICS_SETTING: str(folder / "figures"), **settings},
            )  # fmt: skip

    @property
    def said(self) -> str:
        return (self._folder / "err").read_text()

    def ends(self, code: int = 1) -> str:
        """Wait for the end of a job that fails or is interrupted. Returns its line."""
        assert self.process.wait(timeout=PATIENCE_SECONDS) == code, self.said
        facts: dict[str, Any] = json.loads((self._folder / "out").read_text().splitlines()[-1])
        assert facts["status"] == {1: "failed", 130: "interrupted"}[code]
        line = self.said.splitlines()[-1]
        assert line.endswith(facts["error"])
        assert "Traceback" not in self.said
        figures = (self._folder / "figures" / "mgc_label.prom").read_text()
        assert f'mgc_job_exit_code{{name="label"}} {code:.1f}' in figures
        return line

    def begins(self) -> None:
        """Wait until it labels."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while BEGUN not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline
            time.sleep(0.1)

    @property
    def committed(self) -> bool:
        return (self._folder / "labels" / "_delta_log").exists()

    def end(self) -> None:
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def command(pid: int) -> str:
    """Return the command line of a process; "" if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return ""


def test_the_head_is_killed(tmp_path: Path) -> None:
    job = Night(tmp_path, **{ray_internals.HEAD_PATIENCE_SECONDS: "10"})
    with contextlib.ExitStack() as ending:
        ending.callback(job.end)
        job.begins()
        processes = descendants(job.process.pid)
        (head,) = [pid for pid in processes if ray_internals.HEAD in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(head, signal.SIGKILL)
        line = job.ends()
        assert "GCS" in line
        assert not job.committed
        commands = {pid: command(pid) for pid in processes}
        # An agent of Ray tries to tell the head that its raylet is gone, which takes up to a minute.
        left = still_there(processes, 90.0)
        assert not left, [(commands[pid], command(pid)) for pid in left]


def test_a_node_that_does_not_come_up_in_time(tmp_path: Path) -> None:
    """As on a machine that is much too busy: its raylet is stopped before it has told the head of itself."""
    job = Night(tmp_path)
    with contextlib.ExitStack() as ending:
        ending.callback(job.end)
        raylets: list[int] = []
        while not raylets:
            assert job.process.poll() is None, job.said
            raylets = [pid for pid in descendants(job.process.pid) if ray_internals.RAYLET in command(pid).encode()]
        os.kill(raylets[0], signal.SIGSTOP)
        assert "Ray did not start on this machine" in job.ends()
        assert not job.committed


def test_workers_are_killed_for_memory(tmp_path: Path) -> None:
    """As if another program held nearly all memory: Ray kills each worker as soon as it works."""
    job = Night(tmp_path, MGC_STALL_SECONDS="15", **{ray_internals.MEMORY_THRESHOLD: "0.01"})
    with contextlib.ExitStack() as ending:
        ending.callback(job.end)
        line = job.ends()
        assert "killed" in line
        assert "memory" in line
        assert "taskset" in line
        assert not job.committed


def test_a_driver_that_was_stopped_wakes_after_another_commit(tmp_path: Path) -> None:
    """Stopped, as a laptop that sleeps stops it, and continued when the table is no longer that of its plan."""
    stopped = Night(tmp_path)
    with contextlib.ExitStack() as ending:
        ending.callback(stopped.end)
        stopped.begins()
        os.killpg(stopped.process.pid, signal.SIGSTOP)
        labels = Uri.of_path(tmp_path / "labels")
        night(labels, {"x.mp3": "1"})
        os.killpg(stopped.process.pid, signal.SIGCONT)
        assert "version 0" in stopped.ends()
        assert sorted(held(labels)) == ["x.mp3"]


@pytest.mark.parametrize("wait_seconds", [0.7, 1.5, 2.5, 4.0, 6.0, 8.0, 11.0])
def test_ctrl_c_while_it_starts(wait_seconds: float, tmp_path: Path) -> None:
    """Whatever it imports or starts at that moment, nothing of it is left, and the same command may follow."""
    job = Night(tmp_path)
    with contextlib.ExitStack() as ending:
        ending.callback(job.end)
        time.sleep(wait_seconds)
        processes = descendants(job.process.pid)
        # A terminal sends it to the whole group.
        os.killpg(job.process.pid, signal.SIGINT)
        assert "interrupted" in job.ends(130)
        assert not job.committed
        commands = {pid: command(pid) for pid in processes}
        # As above, Ray's agents may take a minute.
        left = still_there(processes, 90.0)
        assert not left, [(commands[pid], command(pid)) for pid in left]


@pytest.mark.parametrize("free_bytes", [0, 2**16])
def test_a_full_folder_for_temporary_files(free_bytes: int, tmp_path: Path) -> None:
    """Without any room, and with so little that Ray starts, but none of its workers."""
    disk = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    small = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(small, capture_output=True, check=False).returncode:
        disk.rmdir()
        pytest.skip("a small disk can only be mounted by root")
    with contextlib.ExitStack() as ending:
        ending.callback(disk.rmdir)
        ending.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        free = os.statvfs(disk)
        (disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - free_bytes))
        job = Night(tmp_path, TMPDIR=str(disk), MGC_STALL_SECONDS="20")
        ending.callback(job.end)
        line = job.ends()
        assert str(disk) in line
        assert "TMPDIR" in line
        assert not job.committed
