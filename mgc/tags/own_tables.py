"""Read the small CSV files that a person writes, and say in which line a fault is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Final

from mgc.errors import ConfigError

_OTHER_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}


def decode(data: bytes, where: str) -> str:
    """Return the text of a file.

    Args:
        data: the file, UTF-8 with or without a byte order mark.
        where: its place, for messages.

    Raises:
        ConfigError: it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}, line {line}: byte {error.start} is not UTF-8; save the file as UTF-8.") from None


def read_lines(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the values of each line with its number, the header first. Skips empty lines and those that begin with #.

    Args:
        text: the file.
        where: its place, for messages.

    Raises:
        ConfigError: the file is no CSV, or its values are separated by something else than commas.
    """
    # A comment keeps its line, so that the numbers in messages are those of the file.
    lines = ("\n" if line.lstrip().startswith("#") else line for line in io.StringIO(text.removeprefix("\ufeff"), None))
    reader = csv.reader(lines)
    is_header = True
    try:
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            advice = advise_commas(values) if is_header else None
            if advice is not None:
                raise ConfigError(f"{where}, line {reader.line_num}: {advice}.")
            is_header = False
            yield reader.line_num, values
    except csv.Error as error:
        raise ConfigError(f"{where}, line {reader.line_num}: this is no CSV ({error}); correct the line.") from None


def advise_commas(header: list[str]) -> str | None:
    """Return what to do with a table whose values other marks than commas separate; None if commas do.

    Args:
        header: names of its columns, as they were read with commas.
    """
    mark = next((mark for mark in _OTHER_SEPARATORS if len(header) == 1 and mark in header[0]), None)
    if mark is None:
        return None
    return f"{_OTHER_SEPARATORS[mark]} separate its values; save it as CSV with commas"


def find_circle(parents: Mapping[str, str]) -> list[str]:
    """Return names of which each is the parent of the one before, and the first that of the last; [] if none are."""
    sound: set[str] = set()
    for first in parents:
        path: dict[str, None] = {}
        name = first
        while name in parents and name not in sound:
            if name in path:
                names = list(path)
                return names[names.index(name) :]
            path[name] = None
            name = parents[name]
        sound.update(path)
    return []
