"""Tables on stdout, for a terminal or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

_PIPE_COLUMNS: Final = 120
"""Width of a pipe, which has none of its own."""

_LEAST_COLUMNS: Final = 20

_READABLE: Final = 10
"""Characters that a column needs: a shorter one breaks words, and shows no more than an ellipsis in the end."""


def show(*renderables: RenderableType) -> None:
    """Print on stdout. A table that is too wide is printed as a list: a row is a paragraph, a cell one of its lines."""
    console = _open_console()
    for each in renderables:
        console.print(_fitted(each, console))


def plain(text: str) -> str:
    """Escape markup and control characters in text from files."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in text)
    return shown.replace("[", "\\[")


def _open_console() -> Console:
    """Return a console on stdout, as wide as COLUMNS says, or else as the terminal."""
    asked = os.environ.get("COLUMNS", "")
    width = int(asked) if asked.isdecimal() and int(asked) else None
    if width is None and not sys.stdout.isatty():
        width = _PIPE_COLUMNS
    return Console(width=width and max(width, _LEAST_COLUMNS), highlight=False)


def _fitted(renderable: RenderableType, console: Console) -> RenderableType:
    if isinstance(renderable, Group):
        return Group(*(_fitted(each, console) for each in renderable.renderables))
    if isinstance(renderable, Table) and _needed(renderable, console) > console.width:
        return Group(*_stacked(renderable))
    return renderable


def _needed(table: Table, console: Console) -> int:
    """Return the fewest characters in which a table can be read."""
    options = console.options.update(max_width=10_000)
    without_breaks = Measurement.get(console, options, table).minimum
    saved = 0
    for column in table.columns:
        longest = max(Measurement.get(console, options, cell).minimum for cell in (column.header, *column.cells))
        saved += max(longest, column.min_width or 0) - (longest if column.no_wrap else min(longest, _READABLE))
    return without_breaks - saved


def _stacked(table: Table) -> Iterator[RenderableType]:
    """Yield the rows of a table as paragraphs."""
    if table.title:
        yield Text.from_markup(str(table.title), style="italic")
    # A column without a header behind others only decorates the row, except where no column has a header.
    columns = [
        column for place, column in enumerate(table.columns) if not (place and table.show_header and not column.header)
    ]
    for cells in zip(*(column.cells for column in columns), strict=True):
        yield Text()
        for place, (column, cell) in enumerate(zip(columns, cells, strict=True)):
            if str(cell):
                yield Padding(Text.from_markup(_line(column, str(cell)), overflow="fold"), (0, 0, 0, 2 * bool(place)))
    yield Text()


def _line(column: Column, cell: str) -> str:
    text = ", ".join(part for part in cell.split("\n") if part)
    return f"{column.header}: {text}" if column.header else text
