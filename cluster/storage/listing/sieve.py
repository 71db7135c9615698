"""Separate the tracks from other files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cluster.storage.boto_types import ListedObject
from cluster.storage.listing.extensions import AUDIO_EXTENSIONS, extension_of
from cluster.storage.listing.facts import EXCLUDED, HIDDEN, NO_EXTENSION, NOT_INCLUDED, Survey
from cluster.storage.selection import ALL, Selection

Look = Callable[[Sequence[str]], Sequence[bool | None]]
"""Function from keys of objects to whether they begin like audio; None for one that cannot be read."""

Closed = tuple[str, str]
"""A file or folder that is left out as a whole: `HIDDEN` or `EXCLUDED`, and its path."""

_NOTHING: Final[Closed] = ("", "")


def is_track(
    track_id: str, size_bytes: int, look: Callable[[], bool | None], survey: Survey, selection: Selection
) -> bool:
    """Return whether a file that is neither hidden nor excluded is a track. If not, count it.

    Args:
        track_id: the path below SOURCE.
        size_bytes: size of the file.
        look: function that says whether the file begins like audio, or None if it cannot be read.
        survey: what is seen besides the tracks is added to it.
        selection: which of the files are wanted.
    """
    if not selection.includes(track_id):
        survey.pass_over(NOT_INCLUDED)
        return False
    extension = extension_of(track_id.rpartition("/")[2])
    if extension in AUDIO_EXTENSIONS:
        return True
    if extension or not size_bytes:
        survey.pass_over(extension or NO_EXTENSION)
        return False
    return _is_audio(track_id, look(), survey)


def _is_audio(track_id: str, answer: bool | None, survey: Survey) -> bool:
    """Return whether a file without an extension is a track, after a look at its first bytes."""
    survey.looked_at += 1
    if answer is None:
        survey.miss(track_id)
    elif not answer:
        survey.pass_over(NO_EXTENSION)
    return bool(answer)


class Sieve:
    """Separates tracks from the other keys of an S3 prefix. The keys come in order.

    Attributes:
        prefix: prefix of the keys: empty, or ending in a slash.
        survey: what was seen besides the tracks.
        closed: the first and the last hidden or excluded file or folder met, or None. When two stretches of keys are
            sieved apart, the second counts one too many if it begins with the one that the first ended with.
    """

    def __init__(self, prefix: str, selection: Selection = ALL, look: Look | None = None) -> None:
        self.prefix = prefix
        self.survey = Survey()
        self.closed: tuple[Closed, Closed] | None = None
        self._selection, self._look = selection, look

    def tracks(self, items: Sequence[ListedObject]) -> list[tuple[str, ListedObject]]:
        """Return the audio files among the next keys, each with its track id. Count the other keys."""
        found: list[tuple[str, ListedObject]] = []
        unknown: list[ListedObject] = []
        for item in items:
            track_id = item["Key"][len(self.prefix) :]
            # Some programs leave a marker for a folder, which is no file.
            if not track_id or track_id.endswith("/") or not self._is_open(track_id):
                continue
            extension = extension_of(track_id.rpartition("/")[2])
            if extension in AUDIO_EXTENSIONS:
                found.append((track_id, item))
            elif extension or not item["Size"] or self._look is None:
                self.survey.pass_over(extension or NO_EXTENSION)
            else:
                found.append((track_id, item))
                unknown.append(item)
        if not unknown or self._look is None:
            return found
        keys = [item["Key"] for item in unknown]
        answers = zip(keys, self._look(keys), strict=True)
        wrong = {key for key, answer in answers if not _is_audio(key[len(self.prefix) :], answer, self.survey)}
        return [(track_id, item) for track_id, item in found if item["Key"] not in wrong]

    def _is_open(self, track_id: str) -> bool:
        """Return whether a file is neither hidden nor left out by a pattern. If it is, count it or its folder."""
        closed = closed_part(track_id, self._selection)
        if closed is not None:
            if self.closed is None:
                self.closed = (closed, _NOTHING)
            first, last = self.closed
            if closed != last:
                self.survey.pass_over(closed[0])
            self.closed = (first, closed)
            return False
        if not self._selection.includes(track_id):
            self.survey.pass_over(NOT_INCLUDED)
            return False
        return True


def closed_part(track_id: str, selection: Selection) -> Closed | None:
    """Return the first part of a path that is hidden or excluded, with why and the path up to it; None if none is."""
    if not selection.exclude and not track_id.startswith(".") and "/." not in track_id:
        return None
    stop = -1
    while stop < len(track_id):
        start = stop + 1
        stop = track_id.find("/", start)
        stop = len(track_id) if stop < 0 else stop
        if track_id.startswith(".", start):
            return HIDDEN, track_id[:stop]
        if selection.excludes(track_id[:stop]):
            return EXCLUDED, track_id[:stop]
    return None
