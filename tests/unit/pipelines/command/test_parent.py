"""Jobs as processes of their own, ended in every way from outside and inside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.session.local_cluster import descendants, still_there
from pipelines.command.job import METRICS_SETTING

ROOT = Path(__file__).parents[4]

PROGRAM = """
import os, signal, sys, time, click
from pathlib import Path
from pipelines.command.job import Summary, run_and_exit
folder = Path(sys.argv[1])
class Crash:
    # Python deletes it while it shuts down.
    def __del__(self, abort=os.abort):
        abort()
@click.command("label")
@click.argument("how")
def command(how):
    (folder / "child").write_text(str(os.getpid()))
    if how == "crashes":
        os._exit(int(sys.argv[3]))
    if how == "says and crashes":
        globals()["crash"] = Crash()
        return Summary(counts={"labeled": 3}, alarms=["look"])
    (folder / "ticks").touch()
    try:
        while not (folder / "go").exists():
            with (folder / "ticks").open("ab") as ticks:
                ticks.write(b".")
            time.sleep(0.02)
    except KeyboardInterrupt:
        (folder / "interrupted").touch()
        if how == "stubborn":
            time.sleep(60)
        raise
    return Summary(counts={"labeled": 3})
run_and_exit(command, [sys.argv[2]], "mgc label")
"""


class Job:
    """A job that ticks until it is told to go, with its parent."""

    def __init__(self, folder: Path, how: str = "works", *more: str, launcher: tuple[str, ...] = ()) -> None:
        self.folder = folder
        (folder / "metrics").mkdir()
        self.parent = subprocess.Popen(
            [*launcher, sys.executable, "-c", PROGRAM, str(folder), how, *more],
            cwd=ROOT, env={**os.environ, METRICS_SETTING: str(folder / "metrics")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    @property
    def child(self) -> int:
        """The process that works, once it does."""
        wait_until((self.folder / "ticks").exists)
        return int((self.folder / "child").read_text())

    def ticks(self) -> bool:
        """Whether it works at the moment."""
        before = (self.folder / "ticks").stat().st_size
        time.sleep(0.3)
        return (self.folder / "ticks").stat().st_size > before

    def end(self) -> tuple[int, dict[str, Any], str]:
        """Its exit code, its summary, and its line."""
        out, err = self.parent.communicate(timeout=30)
        assert len(err.splitlines()) <= 1, err
        assert len(out.splitlines()) == 1, out
        return self.parent.returncode, json.loads(out), err.strip()

    def published(self) -> str:
        return (self.folder / "metrics" / "mgc_label.prom").read_text()


def wait_until(reached: Any) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def jobs() -> Iterator[contextlib.ExitStack]:
    """Ends what a test leaves behind."""
    with contextlib.ExitStack() as stack:
        yield stack


def start(jobs: contextlib.ExitStack, *arguments: Any, **named: Any) -> Job:
    job = Job(*arguments, **named)

    def end() -> None:
        for pid in descendants(job.parent.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        job.parent.communicate()

    jobs.callback(end)
    return job


def test_a_job_that_works(jobs: contextlib.ExitStack, tmp_path: Path) -> None:
    job = start(jobs, tmp_path)
    assert job.child != job.parent.pid
    (tmp_path / "go").touch()
    code, facts, line = job.end()
    assert (code, facts["status"], facts["counts"], line) == (0, "done", {"labeled": 3}, "")
    assert 'mgc_job_exit_code{name="label"} 0.0' in job.published()


@pytest.mark.parametrize(
    ("number", "fact"),
    [(signal.SIGKILL, "memory"), (signal.SIGSEGV, "SIGSEGV"), (signal.SIGABRT, "GCS")],
)
def test_a_job_that_a_signal_kills(
    number: signal.Signals, fact: str, jobs: contextlib.ExitStack, tmp_path: Path
) -> None:
    job = start(jobs, tmp_path)
    os.kill(job.child, number)
    code, facts, line = job.end()
    assert (code, facts["job"], facts["status"]) == (1, "label", "failed")
    assert line == f"mgc label: {facts['error']}"
    assert number.name in line
    assert fact in line
    assert 'mgc_job_exit_code{name="label"} 1.0' in job.published()
    assert not list((tmp_path / "metrics").glob("*success*"))


def test_a_job_that_ends_itself_without_a_word(jobs: contextlib.ExitStack, tmp_path: Path) -> None:
    """As Ray's core does with its driver."""
    code, facts, line = start(jobs, tmp_path, "crashes", "7").end()
    assert (code, facts["status"]) == (1, "failed")
    assert "status 7" in line
    assert "GCS" in line


def test_a_crash_after_the_outcome_does_not_change_it(jobs: contextlib.ExitStack, tmp_path: Path) -> None:
    job = start(jobs, tmp_path, "says and crashes")
    code, facts, _ = job.end()
    assert (code, facts["status"], facts["alarms"]) == (3, "done", ["look"])
    assert 'mgc_job_exit_code{name="label"} 3.0' in job.published()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whom", ["parent", "child", "group"])
def test_a_signal_interrupts_once(
    number: signal.Signals, whom: str, jobs: contextlib.ExitStack, tmp_path: Path
) -> None:
    """`kill` reaches the parent, Ctrl-C both, `ray job stop` each of them."""
    job = start(jobs, tmp_path)
    child = job.child
    if whom == "group":
        os.killpg(job.parent.pid, number)
    else:
        os.kill(job.parent.pid if whom == "parent" else child, number)
    code, facts, line = job.end()
    assert (code, facts["status"]) == (130, "interrupted")
    assert "interrupted" in line
    assert (tmp_path / "interrupted").exists()
    assert 'mgc_job_exit_code{name="label"} 130.0' in job.published()


def test_an_interrupted_job_that_is_killed_before_its_summary(jobs: contextlib.ExitStack, tmp_path: Path) -> None:
    job = start(jobs, tmp_path, "stubborn")
    child = job.child
    job.parent.terminate()
    wait_until((tmp_path / "interrupted").exists)
    os.kill(child, signal.SIGKILL)
    code, facts, line = job.end()
    assert (code, facts["status"]) == (130, "interrupted")
    assert "SIGKILL" in line


def test_the_child_does_not_outlive_its_parent(jobs: contextlib.ExitStack, tmp_path: Path) -> None:
    job = start(jobs, tmp_path)
    child = job.child
    assert child in descendants(job.parent.pid)
    job.parent.kill()
    job.parent.wait()
    assert not still_there([child], 5.0)


def test_a_stopped_job_stops_and_goes_on(jobs: contextlib.ExitStack, tmp_path: Path) -> None:
    # As a shell does. The kernel ignores SIGTSTP of a group that nobody in its session has started.
    shell = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], process_group=0))"
    job = start(jobs, tmp_path, launcher=(sys.executable, "-c", shell))
    child = job.child
    _, parent, _ = descendants(job.parent.pid)
    os.kill(parent, signal.SIGTSTP)
    wait_until(lambda: state(parent) == state(child) == "T")
    assert not job.ticks()
    os.kill(parent, signal.SIGCONT)
    wait_until(job.ticks)
    (tmp_path / "go").touch()
    assert job.end()[0] == 0


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_nohup_goes_on_without_its_terminal(jobs: contextlib.ExitStack, tmp_path: Path) -> None:
    job = start(jobs, tmp_path, launcher=("nohup",))
    assert job.child
    os.killpg(job.parent.pid, signal.SIGHUP)
    wait_until(job.ticks)
    (tmp_path / "go").touch()
    out, _ = job.parent.communicate(timeout=30)
    assert (job.parent.returncode, json.loads(out)["status"]) == (0, "done")


def test_a_closed_stdout_does_not_change_the_outcome(jobs: contextlib.ExitStack, tmp_path: Path) -> None:
    job = start(jobs, tmp_path)
    assert job.child
    assert job.parent.stdout is not None
    job.parent.stdout.close()
    (tmp_path / "go").touch()
    assert job.parent.wait(timeout=30) == 0
    assert job.parent.stderr is not None
    assert "stdout" in job.parent.stderr.read()


@pytest.mark.parametrize("words", [["-m", "pipelines.label"], ["-m", "pipelines.cli", "label"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports(words: list[str], number: signal.Signals, tmp_path: Path) -> None:
    """A module that Python imports early sends it; Python has not read a line of the job yet."""
    (tmp_path / "click.py").write_text(f"import os, sys\nos.kill(os.getpid(), {number:d})\n"
        f"sys.path.remove({str(tmp_path)!r})\ndel sys.modules['click']\nimport click\n")  # fmt: skip
    done = subprocess.run(
        [sys.executable, *words, "music", "--labels", str(tmp_path / "labels")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert json.loads(done.stdout)["status"] == "interrupted"
    assert len(done.stderr.splitlines()) == 1
