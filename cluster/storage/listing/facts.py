"""What a listing finds: the audio files, and what it saw besides."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from mgc.errors import StorageError

HIDDEN: Final = "hidden"
"""The name for files and folders that begin with a dot; a hidden folder counts once."""

EXCLUDED: Final = "excluded"
"""The name for files and folders that a pattern excludes; an excluded folder counts once."""

NOT_INCLUDED: Final = "not included"
"""The name for files that no pattern includes, if there are such patterns."""

NOT_A_FILE: Final = "not a file"
"""The name for links that lead nowhere or into SOURCE itself, pipes, sockets and devices."""

NO_EXTENSION: Final = "no extension"
"""The name for files without an extension whose first bytes are not those of audio."""

OTHER: Final = "other extensions"
"""The name for all extensions beyond the first `MOST_NAMES`."""

MOST_NAMES: Final = 1000
"""Most names that are counted one by one. Some programs give each file an extension of its own."""

MOST_UNREADABLE: Final = 1000
"""Most unreadable places that are remembered one by one. With more, the whole SOURCE counts as unreadable."""


@dataclass(frozen=True, slots=True)
class FileFact:
    r"""One audio file as the store describes it.

    Attributes:
        track_id: the path below SOURCE, with `/` between folders; for a single file its name. It differs for any two
            files: see `cluster.storage.listing.local.shown`.
        uri: place to fetch it from, as text, because the catalog takes millions of them as text.
        size_bytes: size of the file. An empty file is listed too, and ends in quarantine as `empty`.
        content_tag: text that changes when the bytes change. On S3 it is the ETag; locally it is the modification time
            in nanoseconds and the size, both in hexadecimal.
    """

    track_id: str
    uri: str
    size_bytes: int
    content_tag: str


def content_tag(status: os.stat_result) -> str:
    """Return the content tag of a local file."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def etag(quoted: str) -> str:
    """Return the content tag of an S3 object from its ETag header."""
    return quoted.strip('"')


@dataclass
class Survey:
    """What a listing saw besides the tracks. It is complete after the last track.

    Attributes:
        passed_over: number of files that are no tracks, by extension in lower case (`.jpg`) or by one of the names
            above.
        unreadable: paths below SOURCE of files and folders that could not be read; "" for all of SOURCE.
        looked_at: number of files without an extension whose first bytes were read.
    """

    passed_over: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    looked_at: int = 0

    def pass_over(self, name: str, count: int = 1) -> None:
        """Count files that are no tracks."""
        known = name in self.passed_over or len(self.passed_over) < MOST_NAMES
        self.passed_over[name if known else OTHER] += count

    def miss(self, place: str) -> None:
        """Remember a place that could not be read."""
        if self.unreadable[:1] == [""] or place in self.unreadable[-1:]:
            return
        self.unreadable.append(place)
        if len(self.unreadable) > MOST_UNREADABLE:
            self.unreadable = [""]

    def add(self, other: Survey) -> None:
        """Add what another part of the same listing saw."""
        for name, count in other.passed_over.items():
            self.pass_over(name, count)
        for place in other.unreadable:
            self.miss(place)
        self.looked_at += other.looked_at

    def to_json(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "passed_over": dict(self.passed_over),
            "unreadable": list(self.unreadable),
            "looked_at": self.looked_at,
        }

    @classmethod
    def from_json(cls, values: object) -> Self:
        """Read the values of `to_json`. Another program may have written them.

        Raises:
            StorageError: they are something else.
        """
        match values:
            case {"passed_over": dict(passed_over), "unreadable": list(unreadable), "looked_at": int(looked_at)} if (
                len(passed_over) <= MOST_NAMES + 1
                and len(unreadable) <= MOST_UNREADABLE
                and all(isinstance(name, str) for name in (*passed_over, *unreadable))
                and all(isinstance(count, int) and count >= 0 for count in (*passed_over.values(), looked_at))
            ):
                return cls(Counter(passed_over), unreadable, looked_at)
        raise StorageError("this is no survey of a listing.")


class Unseen:
    """Tells which tracks lie in places that a listing could not read.

    Args:
        places: see `Survey.unreadable`.
    """

    def __init__(self, places: Collection[str]) -> None:
        self._places = frozenset(places)

    def __bool__(self) -> bool:
        return bool(self._places)

    def of(self, track_ids: Iterable[str]) -> list[bool]:
        """Return for each track whether it lies there."""
        if not self._places or "" in self._places:
            return [bool(self._places)] * len(list(track_ids))
        return [self._holds(track_id) for track_id in track_ids]

    def _holds(self, track_id: str) -> bool:
        if track_id in self._places:
            return True
        place = track_id.find("/")
        while place >= 0:
            if track_id[:place] in self._places:
                return True
            place = track_id.find("/", place + 1)
        return False


def most_frequent(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return names with their counts, the most frequent first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
