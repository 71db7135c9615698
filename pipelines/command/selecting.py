"""The options that choose files of a SOURCE."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from cluster.storage.selection import Selection

Result = TypeVar("Result")


class PatternType(click.ParamType[str]):
    """A pattern for paths below SOURCE, see `Selection`."""

    name = "PATTERN"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a pattern."""
        text = str(value)
        if not text.strip("/"):
            self.fail(f"{text!r} matches nothing; write a name (*.wav) or a path below SOURCE (Jazz/*).", param, ctx)
        return text


_INCLUDE: Final = click.option(
    "--include",
    type=PatternType(),
    multiple=True,
    help="Take only the files of SOURCE that match; repeat it for several patterns. A pattern without / is compared "
    "with the names of files and folders, one with / with their whole path below SOURCE. * stands for anything within "
    "a name, ? for one character, [abc] for one of these, ** for any folders. Case matters. A folder that matches "
    "stands for all in it.",
)
_EXCLUDE: Final = click.option(
    "--exclude",
    type=PatternType(),
    multiple=True,
    help="Leave out the files and folders of SOURCE that match, even if they are included; patterns as for --include. "
    "An excluded folder is not opened.",
)


def choosing_files(command: Callable[..., Result]) -> Callable[..., Result]:
    """Add the options to a command, which gets them as `selection`."""

    @functools.wraps(command)
    def call(include: tuple[str, ...], exclude: tuple[str, ...], **others: Any) -> Result:
        return command(selection=Selection(include, exclude), **others)

    return _INCLUDE(_EXCLUDE(call))
