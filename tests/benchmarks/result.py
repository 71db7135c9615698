"""What a measurement gives."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Result:
    """A named value, the aim in words, and what else was seen. Without a value: why there is none."""

    name: str
    value: float | None
    aim: str
    detail: str


def say(text: str) -> None:
    """A line for the person who watches."""
    print(text, file=sys.stderr, flush=True)


def show(results: Sequence[Result], console: Console) -> None:
    """Print results as a table."""
    table = Table("name", "value", "aim", "seen")
    for result in results:
        table.add_row(result.name, "none" if result.value is None else f"{result.value:.3f}", result.aim, result.detail)
    console.print(table)


def hand_over(results: Sequence[Result]) -> None:
    """Print results as a table for a person who watches, and as the last line of stdout for a program that asked."""
    if sys.stderr.isatty():
        show(results, Console(stderr=True))
    print(json.dumps([dataclasses.asdict(result) for result in results]), flush=True)
