"""Examples of the docs, as tests run them.

A comment before a fenced block of Python or shell makes it an example: `<!-- example: FOLDER; prints: REGEX -->`.
FOLDER names what lies in the working directory; each `prints:` is a pattern that the output must hold. The lines of a
block of shell are `mgc` commands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mgc
from pipelines.cli import find
from pipelines.command.job import ALARMED, run

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))))

_EXAMPLE = re.compile(r"^<!-- example: (.+?) -->\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^<!-- example:", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A block of a page: where it stands, what lies around it, its language and text, and what it must print."""

    page: str
    line: int
    folder: str
    language: str
    text: str
    prints: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def run(self, bucket_uri: str | None = None) -> None:
        """Run it in the working directory.

        Args:
            bucket_uri: takes the place of `s3://bucket`.
        """
        text = self.text if bucket_uri is None else self.text.replace("s3://bucket", bucket_uri)
        if self.language == "python":
            exec(compile("\n" * self.line + text, self.page, "exec"), {"__name__": "example"})
            return
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                assert words[0] == mgc.__name__, f"{self}: an example's lines are mgc commands, this is {line!r}"
                code = run(find(words[1]), words[2:], f"mgc {words[1]}")
                assert code in (0, ALARMED), f"{self}: {line!r} ended with {code}"


def examples(folders: tuple[str, ...]) -> list[Example]:
    """Return the examples of all pages that run in one of these folders."""
    return [example for page in PAGES for example in _read(page) if example.folder in folders]


def _read(page: str) -> Iterator[Example]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = list(_EXAMPLE.finditer(text))
    assert len(found) == len(_MARK.findall(text)), f"{page}: an example's comment stands before no block"
    for match in found:
        folder, *patterns = match[1].split("; prints: ")
        line = text.count("\n", 0, match.start(3))
        yield Example(page, line, folder, match[2], match[3], tuple(patterns))
