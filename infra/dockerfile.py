"""Read a Dockerfile and what its .dockerignore lets through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

NAME: Final = "Dockerfile"


def steps(file: Path) -> list[tuple[str, str]]:
    """Return the steps of a Dockerfile in their order: the word in capitals, and all that follows it.

    Lines of comments are gone, and lines that a backslash continues are joined, as Docker does it.
    """
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\[ \t]*\n", "", "\n".join(lines))
    parted = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, _, rest in parted]


def copied(rest: str) -> tuple[str, Sequence[str], str]:
    """Read what follows COPY.

    Returns:
        The stage that `--from` names, or ""; the sources; the target.

    Raises:
        ValueError: it has another option.
    """
    words = rest.split()
    options = [word for word in words if word.startswith("--")]
    *sources, target = [word for word in words if not word.startswith("--")]
    stages = [option.removeprefix("--from=") for option in options if option.startswith("--from=")]
    if len(stages) != len(options):
        raise ValueError(f"COPY {rest}: only --from is known here")
    return stages[0] if stages else "", sources, target


def is_sent(path: str, ignore: Sequence[str]) -> bool:
    """Return whether a file goes to the builder.

    Args:
        path: below the folder that is built.
        ignore: lines of the .dockerignore. The last pattern that matches the path or a folder above it decides.
    """
    sent = True
    for line in ignore:
        pattern = line.strip().removeprefix("!")
        if pattern and not pattern.startswith("#") and re.fullmatch(f"{_expression(pattern)}(/.*)?", path):
            sent = line.startswith("!")
    return sent


def _expression(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
