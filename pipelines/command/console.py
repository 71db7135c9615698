"""Tables on stdout, for a terminal or a pipe."""

from __future__ import annotations

import os
import sys

from rich.console import Console


def open_console() -> Console:
    """Return a console on stdout for tables. A pipe has no width of its own and is given 120 columns, or COLUMNS."""
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "120"))
    return Console(width=width, highlight=False)


def plain(text: str) -> str:
    """Escape text from files: it holds no markup, and no control characters that a terminal would obey."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in text)
    return shown.replace("[", "\\[")
