"""Tables on stdout, for a terminal or a pipe."""

from __future__ import annotations

import os
import sys

from rich.console import Console


def open_console() -> Console:
    """Return a console on stdout for tables. A pipe has no width of its own, so it gets COLUMNS or 120 columns."""
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "120"))
    return Console(width=width, highlight=False)


def plain(text: str) -> str:
    """Escape markup and control characters in text from files."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in text)
    return shown.replace("[", "\\[")
