"""What every job has in common.

One clear line for what is wrong, an exit code, a JSON summary as the last line of stdout (or alone there, the JSON that
was asked for).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, NoReturn

import click

from cluster.session.profiles import PROFILES
from cluster.storage.redaction import redact
from cluster.storage.uri import Uri
from mgc.errors import ConfigError, cause

FAILED: Final = 1
MISUSED: Final = 2
ALARMED: Final = 3
INTERRUPTED: Final = 130

METRICS_SETTING: Final = "MGC_JOB_METRICS"
"""The environment variable that says where the figures of jobs go, see `job_metrics`."""

_INTERRUPTED_LINE: Final = "interrupted; nothing was committed. The same command goes on where it stopped."


@dataclass
class Summary:
    """What a job did.

    Attributes:
        status: `done`, `up_to_date`, `partial` (told to stop before the end) or `dry_run`.
        counts: numbers by name.
        outputs: URIs by name.
        alarms: what a person should look at, though the job is done; a sentence each.
        answer: JSON-ready values that were asked for: printed on stdout in place of the summary, which goes to stderr.
    """

    status: str = "done"
    counts: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    answer: Any = None


def submitted() -> bool:
    """Whether this process is the driver of a submitted Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


class UriType(click.ParamType[Uri]):
    """A local path or an s3:// URI.

    A submitted job runs in a throw-away copy of the working directory. A relative path would read from that copy and
    write into it, so it is refused.
    """

    name = "URI"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Uri:
        """Parse a path or a URI. A default value may be a `Uri` already.

        Raises:
            StorageError: see `Uri.parse`.
        """
        if isinstance(value, Uri):
            return value
        text = str(value)
        if not text:
            self.fail("a path or URI is needed here.", param, ctx)
        if "://" not in text and not text.startswith(("/", "~")) and submitted():
            self.fail(f"{text!r} is relative; a submitted job needs an absolute path or an s3:// URI.", param, ctx)
        return Uri.parse(text)


URI: Final = UriType()


class BundleType(click.ParamType[str]):
    """The folder of a bundle, or the word for the one that is shipped with mgc."""

    name = "URI"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word as it is, a URI as its text."""
        return "default" if value == "default" else URI.convert(value, param, ctx).text


BUNDLE: Final = BundleType()

PROFILE: Final = click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    help="How the machine or the cluster is shared out; without it by what is there. `mgc doctor` says which fit.",
)

OVERRIDES: Final[dict[str, Any]] = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Settings of a command whose options may also be fields of the configuration, by dotted name."""


def overrides(arguments: Sequence[str]) -> dict[str, str]:
    """`--training.epochs 3` and `--training.epochs=3` as {"training.epochs": "3"}.

    Raises:
        ConfigError: an option that is none, or one without a value.
    """
    fields: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--") or "." not in option.partition("=")[0]:
            raise ConfigError(f"there is no option {option}; `--help` lists the options, `--dry-run` the fields.")
        name, equals, value = option[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"the field --{name} wants a value.")
            value = rest.pop(0)
        fields[name] = value
    return fields


def say(text: str) -> None:
    """A line for the person who watches; stdout is kept for results."""
    print(text, file=sys.stderr, flush=True)


def run(command: click.Command, arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """Run a job's command line to its exit code.

    The command returns a `Summary`. 0: the job did what it says; 1: it failed; 2: the command line is wrong; 3: it did
    what it says, and there are alarms; 130: interrupted.
    """
    name = program or f"mgc {command.name}"
    started = time.monotonic()
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    summary = Summary()
    code, reason = 0, None
    try:
        result = command.main(list(arguments) if arguments is not None else None, name, standalone_mode=False)
        if not isinstance(result, Summary):
            # --help and --version: click has printed what was asked for.
            return int(result or 0)
        summary = result
        code = ALARMED if summary.alarms else 0
    except click.ClickException as error:
        code, reason = MISUSED, error.format_message()
    except (KeyboardInterrupt, click.Abort):
        code, reason = INTERRUPTED, _INTERRUPTED_LINE
    except Exception as error:  # noqa: BLE001
        # Ray wraps what a worker raised: our own line is in it somewhere. Anything else is a bug and shows its
        # traceback.
        found = cause(error)
        if received:
            # A query that a signal ends raises an error of DuckDB's in place of the interrupt.
            code, reason = INTERRUPTED, _INTERRUPTED_LINE
        elif found is not None:
            code, reason = FAILED, found
        else:
            code, reason = FAILED, f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            traceback.print_exc(file=sys.stderr)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if reason is not None:
        summary = Summary("interrupted" if code == INTERRUPTED else "failed")
        say(f"{name}: {' '.join(reason.split())}")
    facts: dict[str, Any] = {"job": command.name, "status": summary.status}
    facts |= {"counts": summary.counts, "outputs": summary.outputs, "seconds": round(time.monotonic() - started, 2)}
    if summary.alarms:
        facts["alarms"] = summary.alarms
    if reason is not None:
        facts["error"] = " ".join(reason.split())
    if summary.status != "dry_run":
        _publish(facts, code)
    if summary.answer is None:
        print(json.dumps(facts), flush=True)
    else:
        print(json.dumps(summary.answer, indent=2), flush=True)
        say(json.dumps(facts))
    return code


def _publish(facts: dict[str, Any], code: int) -> None:
    """Tell Prometheus, where the environment says how; a job does not fail for that."""
    where = os.environ.get(METRICS_SETTING)
    if not where:
        return
    # Only who asks for it pays for this import.
    from pipelines.command.metrics import publish

    try:
        publish(facts, code, code in (0, ALARMED), where)
    except (OSError, ValueError) as error:
        say(f"{METRICS_SETTING}: the job's figures were not published: {' '.join(redact(str(error)).split())[:300]}")


def main(command: click.Command) -> NoReturn:
    """Run a job as `python -m pipelines.X` and exit."""
    sys.exit(run(command, program=f"python -m pipelines.{(command.name or '').replace('-', '_')}"))


def describe(facts: dict[str, Any]) -> None:
    """Print a plan or a configuration, one `name: value` a line, on stdout."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        click.echo(f"{name:<{width}}  {shown}")
