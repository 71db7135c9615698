"""The command line as a newcomer sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import click
import pytest

from pipelines.cli import JOBS, find
from pipelines.command.job import Summary, run


@pytest.mark.parametrize("word", JOBS)
def test_every_job_explains_itself(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = find(word)
    assert command.name == word
    assert run(command, ["--help"]) == 0
    printed = capsys.readouterr().out
    assert "Usage" in printed
    # These are of whole models, or of all tracks of a split; the others look at a machine, or make one.
    assert ("--limit" in printed) == (word not in ("ensemble", "compare", "doctor", "cluster"))


def test_help_lists_every_job_without_importing_ray() -> None:
    code = (
        "import sys; sys.argv = ['mgc']\nfrom pipelines.cli import main\n"
        "try: main()\nfinally: assert 'ray' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in JOBS)


def test_an_unknown_job_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "pipelines.cli", "lable"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "lable" in done.stderr


def test_a_wrong_option_is_one_line_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(find("label"), ["music", "--lables", "x"]) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert json.loads(printed.out.splitlines()[-1])["status"] == "failed"


def test_a_submitted_job_refuses_relative_paths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert run(find("catalog"), ["music", "--out", "/tmp/c.parquet"]) == 2
    assert "relative" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_job_as_interrupted_whatever_a_library_makes_of_it(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """A query that a signal ends raises an error of DuckDB's own."""

    @click.command("label")
    def command() -> Summary:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise RuntimeError("Query interrupted") from None
        return Summary()

    before = signal.getsignal(number)
    assert run(command, []) == 130
    assert signal.getsignal(number) is before
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["status"] == "interrupted"
    assert printed.err.startswith("mgc label: interrupted")
