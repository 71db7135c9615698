"""Which files of SOURCE a person wants, by patterns for their paths. The command line imports it, so it is light."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ANY_FOLDERS: Final = "**"
"""The part of a pattern that stands for any number of folders, or none."""


@dataclass(frozen=True)
class Selection:
    """Patterns for the paths of files and folders below SOURCE, the same for a folder and for a bucket.

    A path is a track id: parts with `/` between them. A pattern without `/` is compared with the name of each file and
    folder at any depth. A pattern with `/` is compared with the whole path. `*` stands for any characters within a
    part, `?` for one, `[abc]` and `[!abc]` for one of a set, `**` as a part for any number of folders. Case matters.
    A folder that matches stands for all that is in it.

    Attributes:
        include: patterns of the wanted files; without any, all are wanted.
        exclude: patterns of the files and folders to leave out, even if they are included.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    def excludes(self, path: str) -> bool:
        """Return whether a pattern of `exclude` matches the path of a file or a folder itself."""
        return any(_pattern(each).matches(path) for each in self.exclude)

    def includes(self, path: str) -> bool:
        """Return whether a pattern of `include` matches the path of a file, or a folder that it is in."""
        return not self.include or any(_pattern(each).covers(path) for each in self.include)


ALL: Final = Selection()


@functools.lru_cache(maxsize=256)
def _pattern(text: str) -> _Pattern:
    return _Pattern(text)


class _Pattern:
    """A parsed pattern."""

    def __init__(self, text: str) -> None:
        parts = [part for part in text.split("/") if part]
        # A slash at the end only says that a folder is meant.
        self._name = None if "/" in text.rstrip("/") else _compiled(parts[0])
        self._parts = [None if part == ANY_FOLDERS else _compiled(part) for part in parts]

    def matches(self, path: str) -> bool:
        """Return whether the pattern matches this path."""
        if self._name is not None:
            return self._name.match(path[path.rfind("/") + 1 :]) is not None
        parts = path.split("/")
        return len(parts) in self._ends(parts)

    def covers(self, path: str) -> bool:
        """Return whether the pattern matches this path or a folder above it."""
        parts = path.split("/")
        if self._name is not None:
            return any(map(self._name.match, parts))
        return any(end > 0 for end in self._ends(parts))

    def _ends(self, parts: Sequence[str]) -> set[int]:
        """Return after how many parts of a path the pattern may end."""
        ends = {0}
        for wanted in self._parts:
            if wanted is None:
                ends = set(range(min(ends), len(parts) + 1)) if ends else ends
            else:
                ends = {end + 1 for end in ends if end < len(parts) and wanted.match(parts[end])}
        return ends


def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(part))
