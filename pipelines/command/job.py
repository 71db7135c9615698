"""What every job does: exit codes, one-line errors, and the summary.

The summary is JSON on the last line of stdout. A job with JSON output prints only that on stdout, and its summary on
stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn, TextIO, TypeVar

import click
from pydantic import JsonValue

from cluster.session.causes import explain_cause
from cluster.session.lifetime import end_with_job
from cluster.storage.redaction import redact
from mgc.errors import ConfigError, cause
from pipelines.command import extras
from pipelines.command.parent import work_apart
from pipelines.command.signals import Interrupts

FAILED: Final = 1
MISUSED: Final = 2
ALARMED: Final = 3
REFUSED: Final = 4
INTERRUPTED: Final = 130

METRICS_SETTING: Final = "MGC_JOB_METRICS"
"""Environment variable that says where jobs publish their figures, see `pipelines.command.metrics`."""

_INTERRUPTED_LINE: Final = "interrupted; nothing was committed. The same command resumes where this one stopped."


@dataclass
class Summary:
    """Result of a job.

    Attributes:
        status: `done`, `up_to_date`, `partial` (stopped on request before the end), `not_pulled` (`mgc pull --try`
            without success) or `dry_run`. With `refused` lines the summary says `refused` instead.
        counts: numbers by name, and other facts.
        outputs: URIs by name, without credentials.
        alarms: sentences about things that a person should check, although the job is done.
        refused: one line for each guard that stopped the job before its commit: what it saw and what to do.
        answer: requested JSON values. They are printed on stdout, and the summary goes to stderr.
    """

    status: str = "done"
    counts: Mapping[str, JsonValue] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    alarms: Sequence[str] = field(default_factory=list)
    refused: Sequence[str] = field(default_factory=list)
    answer: JsonValue = None


def say(text: str) -> None:
    """Print a line for the user on stderr. stdout is for results."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Outcome:
    """Outcome of a command. `error` is one line for the user, or None after success."""

    code: int
    summary: Summary
    error: str | None = None


@dataclass(frozen=True)
class _Call:
    """A call of a job.

    Attributes:
        command: the job.
        arguments: words of the command line after the job's name.
        program: name under which the user called the job.
        started: when, on the monotonic clock.
    """

    command: click.Command
    arguments: Sequence[str]
    program: str
    started: float = field(default_factory=time.monotonic)


def run(command: click.Command, arguments: Sequence[str], program: str | None = None) -> int:
    """Run a job's command line in this process and return its exit code.

    The command returns a `Summary`. Exit codes: 0, done; 1, failed; 2, the command line is wrong, or a file of settings
    that it names; 3, done with alarms; 4, a guard stopped the job before its commit; 130, interrupted.

    Args:
        command: the job.
        arguments: words of the command line.
        program: name under which the user called the job, for messages and help.
    """
    call = _Call(command, arguments, program or f"mgc {command.name}")
    interrupts = Interrupts()
    interrupts.install()
    try:
        parsed = _parse(call, interrupts)
        return _finish(call, _perform(parsed, interrupts) if isinstance(parsed, click.Context) else parsed)
    finally:
        interrupts.restore()


def run_and_exit(command: click.Command, arguments: Sequence[str], program: str) -> NoReturn:
    """Run a job as this program, and exit. See `run` for the arguments and the exit codes.

    A child process does the job, so that its end has a line, a summary and figures even if something kills it. Once a
    signal has ended the job, later ones do not change the exit code, even if Python shuts down slowly.
    """
    call = _Call(command, arguments, program)
    interrupts = Interrupts.of_process()
    ended = _parse(call, interrupts)
    if isinstance(ended, click.Context):
        context = ended

        def work() -> int:
            end_with_job()
            return _finish(call, _perform(context, interrupts))

        code = work_apart(work, interrupts)
        if isinstance(code, int):
            sys.exit(code)
        ended = _failed(INTERRUPTED if interrupts.received else FAILED, code.line)
    code = _finish(call, ended)
    interrupts.close()
    sys.exit(code)


Found = TypeVar("Found")


def _parse(call: _Call, interrupts: Interrupts) -> click.Context | _Outcome | int:
    """Parse the command line. Returns an outcome if it is wrong, an exit code if click itself answered (`--help`)."""
    return _attempt(lambda: call.command.make_context(call.program, list(call.arguments)), interrupts)


def _perform(context: click.Context, interrupts: Interrupts) -> _Outcome | int:
    """Do what the command line says."""

    def work() -> object:
        extras.require(context.command.name or "")
        with context:
            return context.command.invoke(context)

    result = _attempt(work, interrupts)
    if isinstance(result, _Outcome):
        return result
    if not isinstance(result, Summary):
        return result if isinstance(result, int) else 0
    if result.refused:
        return _Outcome(REFUSED, replace(result, status="refused"))
    return _Outcome(ALARMED if result.alarms else 0, result)


def _attempt(work: Callable[[], Found], interrupts: Interrupts) -> Found | _Outcome | int:
    """Return what the work returns. Any error becomes an outcome."""
    try:
        with interrupts.raising():
            return work()
    except click.exceptions.Exit as answered:
        return answered.exit_code
    except click.ClickException as error:
        return _failed(MISUSED, error.format_message())
    except (KeyboardInterrupt, click.Abort):
        return _failed(INTERRUPTED, _INTERRUPTED_LINE)
    except Exception as error:  # noqa: BLE001
        # A signal can end a DuckDB query with DuckDB's own error instead of the interrupt.
        if interrupts.received:
            return _failed(INTERRUPTED, _INTERRUPTED_LINE)
        # Ray wraps the error of a worker; our own line is inside. An error that neither it nor the machine explains
        # is a bug, and shows its traceback.
        found = cause(error) or explain_cause(error)
        if found is not None:
            return _failed(MISUSED if isinstance(error, ConfigError) else FAILED, found)
        traceback.print_exc(file=sys.stderr)
        return _failed(FAILED, f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _finish(call: _Call, outcome: _Outcome | int) -> int:
    """Publish the outcome, print its lines and its summary, and return the exit code."""
    if isinstance(outcome, int):
        return outcome
    summary, job = outcome.summary, call.command.name or ""
    seconds = round(time.monotonic() - call.started, 2)
    facts: dict[str, JsonValue] = {
        "job": job,
        "status": summary.status,
        "counts": dict(summary.counts),
        "outputs": dict(summary.outputs),
        "seconds": seconds,
    }
    if summary.alarms:
        facts["alarms"] = list(summary.alarms)
    if summary.refused:
        facts["refused"] = list(summary.refused)
    if outcome.error is not None:
        facts["error"] = outcome.error
    if summary.status != "dry_run":
        # First, because after SIGHUP there may be no terminal to print on.
        _publish(job, outcome, seconds)
    for line in [*summary.refused, *([outcome.error] if outcome.error is not None else [])]:
        _print(f"{call.program}: {line}", sys.stderr)
    if summary.answer is None:
        _print(json.dumps(facts), sys.stdout)
    else:
        _print(json.dumps(summary.answer, indent=2), sys.stdout)
        _print(json.dumps(facts), sys.stderr)
    return outcome.code


def _print(text: str, stream: TextIO) -> None:
    """Print a line that the outcome does not depend on. Where nobody reads stdout any more, stderr says so."""
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        # Python would fail on the same text again when it exits.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        if stream is sys.stdout:
            _print(f"the end of stdout was lost: {error.strerror}", sys.stderr)


def _failed(code: int, error: str) -> _Outcome:
    return _Outcome(code, Summary("interrupted" if code == INTERRUPTED else "failed"), " ".join(error.split()))


def _publish(job: str, outcome: _Outcome, seconds: float) -> None:
    """Publish the figures at the place that the environment names. A failure here does not fail the job."""
    where = os.environ.get(METRICS_SETTING)
    if not where:
        return
    # Only jobs that publish figures make this import.
    from pipelines.command.metrics import JobFigures, publish

    summary, code = outcome.summary, outcome.code
    figures = JobFigures(job, code, seconds, len(summary.alarms), len(summary.refused), summary.counts)
    try:
        publish(figures, code in (0, ALARMED), where)
    except (OSError, ValueError) as error:
        why = redact(str(error))[:300]
        say(f"{METRICS_SETTING}: figures were not published ({why}); name a writable folder or a gateway, or unset it")


def main(command: click.Command) -> NoReturn:
    """Run a job as `python -m pipelines.X`, and exit."""
    run_and_exit(command, sys.argv[1:], f"python -m pipelines.{(command.name or '').replace('-', '_')}")


def describe(facts: Mapping[str, object]) -> None:
    """Print a plan or a configuration on stdout, one name and value per line."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        click.echo(f"{name:<{width}}  {shown}")
