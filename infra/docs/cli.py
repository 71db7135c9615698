"""The page of the command line: every job with every option, read from click."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from pipelines.cli import JOBS, find

_INTRODUCTION = """\
# Command line

`mgc JOB` and `python -m pipelines.JOB` take the same arguments. This page is made from the code.

Results go to stdout, everything else to stderr. The last line of stdout is a JSON summary. [Exit
codes](errors.md#exit-codes) are the same for all jobs. A job that takes FIELDS lets you set any field of the
configuration by its dotted name, such as `--training.epochs 3`; `--dry-run` prints them all.
"""


def page() -> str:
    """Return the page as Markdown."""
    jobs = [f"- [`mgc {word}`](#mgc-{word}): {what}" for word, what in JOBS.items()]
    parts = [_INTRODUCTION, "\n".join(jobs)]
    for word in JOBS:
        parts += _command(find(word), f"mgc {word}", 2)
    return "\n\n".join(parts) + "\n"


def _command(command: click.Command, program: str, level: int) -> Iterator[str]:
    """Yield the parts of one command's section, and of its subcommands'."""
    with click.Context(command, info_name=program) as context:
        yield f"{'#' * level} {program}"
        yield "```text\n" + command.get_usage(context).removeprefix("Usage: ") + "\n```"
        for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
            yield _text(" ".join(paragraph.split()))
        yield _options(command, context)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                subcommand = command.get_command(context, name)
                if subcommand is not None:
                    yield from _command(subcommand, f"{program} {name}", level + 1)


def _options(command: click.Command, context: click.Context) -> str:
    """Return the table of a command's options."""
    rows = ["| option | what it does |", "| --- | --- |"]
    for parameter in command.get_params(context):
        option, text = parameter.get_help_record(context) or ("", "")
        if text:
            # A bar in a cell needs a backslash, but not inside of code.
            rows.append(
                f"| `{' '.join(option.split())}` | {_text(' '.join(text.split())).replace('|', chr(92) + '|')} |"
            )
    return "\n".join(rows)


def _text(text: str) -> str:
    """Escape what Markdown would take for HTML or emphasis, but leave code as it is."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") for part in parts[::2]]
    return "`".join(parts)
