"""The command line as a newcomer sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cluster.bundles import open_bundle
from cluster.session import ray_internals
from cluster.storage.uri import Uri
from mgc.bundle import load_bundle
from mgc.bundle_names import BundleName
from mgc.errors import BundleError
from pipelines.cli import JOBS, find
from pipelines.command.job import Summary, run
from pipelines.command.options import BUNDLE, URI


@pytest.mark.parametrize("word", JOBS)
def test_every_job_explains_itself(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = find(word)
    assert command.name == word
    assert run(command, ["--help"]) == 0
    printed = capsys.readouterr().out
    assert "Usage" in printed
    # These are of whole models, tables, sources, or splits; the others look at a machine, make one, or fetch one.
    assert ("--limit" in printed) == (
        word not in ("ensemble", "compare", "similar", "learn", "doctor", "cluster", "export", "pull")
    )


HEAVY = (
    "av", "boto3", "botocore", "deltalake", "duckdb", "librosa", "matplotlib", "numpy", "onnx", "onnxruntime", "optuna",
    "pandas", "pyarrow", "ray", "scipy", "sklearn", "torch",
)  # fmt: skip
"""Packages that take long to import. None is needed to say what a job does, or that it has no such option."""


CALLS = [("--help",), ("--version",), ("no-such-job",)]
CALLS += [(word, option) for word in JOBS for option in ("--help", "--no-such-option")]

ANSWERING = """
import json, os, sys
from pipelines.cli import main
calls, heavy = map(json.loads, sys.argv[1:])
first = os.getpid()
for call in calls:
    sys.argv = ["mgc", *call]
    try:
        main()
    except SystemExit as end:
        code = end.code
    # A job that got as far as its child has both processes here, the child first.
    print("imported", *sorted({*sys.modules} & {*heavy}), flush=True)
    if os.getpid() != first:
        os._exit(code)
    print("ended", code, flush=True)
"""

Answer = tuple[int, str, list[str]]


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str, ...], Answer]:
    """The exit code of each call of `mgc`, what it printed, and which of the heavy packages were imported by then.

    One process answers them in turn, so what one of them imports is found with all later ones too.
    """
    command = [sys.executable, "-c", ANSWERING, json.dumps(CALLS), json.dumps(HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, calls, printed, imported = {}, iter(CALLS), "", set[str]()
    for line in done.stdout.splitlines():
        match line.split():
            case "imported", *names:
                imported.update(names)
            case "ended", code:
                found[next(calls)] = int(code), printed, sorted(imported)
                printed = ""
            case _:
                printed += f"{line}\n"
    assert len(found) == len(CALLS)
    return found


@pytest.mark.parametrize("word", JOBS)
def test_a_job_explains_itself_without_heavy_imports(word: str, answers: dict[tuple[str, ...], Answer]) -> None:
    assert answers[word, "--help"][::2] == (0, [])
    code, printed, heavy = answers[word, "--no-such-option"]
    assert (code, heavy) == (2, [])
    assert json.loads(printed.splitlines()[-1])["error"]


def test_mgc_explains_itself_without_heavy_imports(answers: dict[tuple[str, ...], Answer]) -> None:
    code, printed, heavy = answers["--help",]
    assert (code, heavy) == (0, [])
    assert all(word in printed for word in JOBS)
    assert answers["--version",][::2] == (0, [])
    assert answers["no-such-job",][::2] == (2, [])


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


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--alarm", "foo=1", "fetch_failed"), ("--alarm", "flips", "NAME=VALUE"), ("--alarm", "flips=x", "flips"),
        ("--guard", "foo=1", "same_cause"), ("--guard", "stale=2", "stale"), ("--guard", "stale=", "stale"),
    ],
)  # fmt: skip
def test_a_threshold_that_is_none_is_refused_before_anything_is_read(
    option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(find("label"), ["/no/such/music", "--labels", "/no/such/labels", option, value]) == 2
    line = capsys.readouterr().err
    assert option in line
    assert said in line


def test_a_submitted_job_refuses_relative_paths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ray_internals.JOB_MARK, "{}")
    assert run(find("catalog"), ["music", "--out", "/tmp/c.parquet"]) == 2
    assert "relative" in capsys.readouterr().err


def test_names_of_bundles_are_known_to_bundle_options_alone(tmp_path: Path) -> None:
    assert [BUNDLE.convert(name.value, None, None) for name in BundleName] == list(BundleName)
    assert BUNDLE.convert("./mn04", None, None) == URI.convert("mn04", None, None) == Uri.parse("mn04")
    assert BUNDLE.convert("default", None, None) is BundleName.DEFAULT
    assert BUNDLE.convert(BundleName.DEFAULT, None, None) is BundleName.DEFAULT
    assert BUNDLE.convert("./default", None, None) == URI.convert("default", None, None) == Uri.parse("default")
    assert open_bundle(BundleName.DEFAULT).id == load_bundle().id
    with pytest.raises(BundleError):
        open_bundle(Uri.of_path(tmp_path / "default"))


def test_a_submitted_job_takes_a_bundle_by_its_name_but_no_relative_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ray_internals.JOB_MARK, "{}")
    assert BUNDLE.convert("default", None, None) is BundleName.DEFAULT
    with pytest.raises(click.BadParameter):
        BUNDLE.convert("bundle", None, None)


@pytest.mark.parametrize(
    ("job", "names"),
    [("compare", ["first", "second"]), ("ensemble", ["bundles"])]
    + [(job, ["bundle"]) for job in ("evaluate", "export", "label", "plan")],
)
def test_every_job_that_reads_a_bundle_knows_the_names(job: str, names: list[str]) -> None:
    types = {parameter.name: parameter.type for parameter in find(job).params}
    assert [types[name] for name in names] == [BUNDLE] * len(names)


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
    assert printed.err.startswith("mgc label: ")


def test_further_signals_do_not_disturb_the_clean_up(capsys: pytest.CaptureFixture[str]) -> None:
    cleaned: list[str] = []

    @click.command("label")
    def command() -> Summary:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
                cleaned.append("a process")
        return Summary()

    assert run(command, []) == 130
    assert len(cleaned) == 3
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == "interrupted"


LEAVING = """
import os, signal, sys, atexit, click
from pipelines.command.job import Summary, run_and_exit
def late():
    os.kill(os.getpid(), signal.SIGTERM)
    print("left")
atexit.register(late)
class Last:
    # Python deletes it after it has forgotten the handlers of signals.
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGTERM):
        kill(pid, number)
last = Last()
@click.command("cluster")
def command():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        return Summary()
run_and_exit(command, [], "mgc cluster")
"""


def test_a_signal_while_python_shuts_down_does_not_change_the_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVING], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "left"
