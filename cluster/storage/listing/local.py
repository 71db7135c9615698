"""List the audio files of a local folder."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from typing import Final

from cluster.storage.failures import explain
from cluster.storage.listing.facts import EXCLUDED, HIDDEN, NOT_A_FILE, FileFact, Survey, content_tag
from cluster.storage.listing.first_bytes import look_at_file
from cluster.storage.listing.sieve import is_track
from cluster.storage.selection import Selection
from cluster.storage.uri import Uri
from mgc.errors import StorageError

_LOOKS_ESCAPED: Final = re.compile(rb"\\(?=x[0-9a-f]{2})")

_NOTHING_THERE: Final = frozenset({errno.ENOENT, errno.ELOOP})
"""What the operating system says of a link that leads nowhere or in a circle, and of a file that is gone by now."""


def shown(name: str) -> str:
    r"""Return a local name as a part of a track id. Two names never give the same part.

    A byte that is not UTF-8 is written as `\xNN`. A backslash before `x` and two digits
    becomes `\x5c`, so that the two cannot be confused. All other names stay as they are.
    """
    return _LOOKS_ESCAPED.sub(rb"\\x5c", os.fsencode(name)).decode("utf-8", "backslashreplace")


def list_local(source: Uri, survey: Survey, selection: Selection) -> Iterator[FileFact]:
    """Stream the audio files of a local folder, or the one file. See `cluster.storage.listing.list_audio`."""
    status = source.local.stat()
    if stat.S_ISDIR(status.st_mode):
        yield from _Walk(source.path, status, survey, selection).files(source.path, "")
    elif not stat.S_ISREG(status.st_mode):
        raise StorageError(f"cannot list {source}: it is neither a folder nor a file; name a folder of music.")
    elif selection.excludes(name := shown(source.name)):
        survey.pass_over(EXCLUDED)
    elif is_track(name, status.st_size, lambda: look_at_file(source.path), survey, selection):
        yield FileFact(name, source.text, status.st_size, content_tag(status))


class _Walk:
    """A walk through a folder."""

    def __init__(self, root: str, status: os.stat_result, survey: Survey, selection: Selection) -> None:
        self._root, self._survey, self._selection = root, survey, selection
        # The real path reveals links back into SOURCE; the identity reveals two links to one folder outside.
        self._real_root = os.path.realpath(root)
        self._seen = {(status.st_dev, status.st_ino)}

    def files(self, folder: str, prefix: str) -> Iterator[FileFact]:
        """Yield the files below a folder; `prefix` is the folder's part of the track ids."""
        for name, entry, status in sorted(self._entries(folder, prefix), key=lambda each: each[0]):
            if stat.S_ISDIR(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                within = entry.is_symlink() and _overlap(os.path.realpath(entry.path), self._real_root)
                if identity in self._seen or within:
                    self._survey.pass_over(NOT_A_FILE)
                    continue
                self._seen.add(identity)
                yield from self.files(entry.path, prefix + name)
            elif not stat.S_ISREG(status.st_mode):
                self._survey.pass_over(NOT_A_FILE)
            elif self._is_track(prefix + name, entry.path, status):
                yield FileFact(prefix + name, Uri.of_path(entry.path).text, status.st_size, content_tag(status))

    def _is_track(self, track_id: str, path: str, status: os.stat_result) -> bool:
        return is_track(track_id, status.st_size, lambda: look_at_file(path), self._survey, self._selection)

    def _entries(self, folder: str, prefix: str) -> list[tuple[str, os.DirEntry[str], os.stat_result]]:
        """Return what is in a folder, hidden and excluded names aside.

        A folder below SOURCE that cannot be read completely is remembered as unreadable.
        """
        found: list[tuple[str, os.DirEntry[str], os.stat_result]] = []
        failed: list[tuple[str, OSError]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = shown(entry.name)
                    if entry.name.startswith("."):
                        self._survey.pass_over(HIDDEN)
                    elif self._selection.excludes(prefix + name):
                        self._survey.pass_over(EXCLUDED)
                    elif (status := self._look_up(entry, prefix + name, failed)) is not None:
                        # With a slash at the end, a folder sorts among files as its track ids do.
                        found.append((name + ("/" if stat.S_ISDIR(status.st_mode) else ""), entry, status))
            if failed and not found:
                # The folder shows names, but nothing about them.
                raise failed[0][1]
        except OSError:
            if folder == self._root:
                with explain(Uri.of_path(folder), "list"):
                    raise
            self._survey.miss(prefix[:-1])
            return found
        for place, _ in failed:
            self._survey.miss(place)
        return found

    def _look_up(self, entry: os.DirEntry[str], path: str, failed: list[tuple[str, OSError]]) -> os.stat_result | None:
        """Return the facts about an entry of a folder; None if there are none.

        Args:
            entry: the entry.
            path: its path below SOURCE.
            failed: list that gets the path and the error if tracks may be there, as on a disk that does not answer.
        """
        try:
            return entry.stat()
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                self._survey.pass_over(NOT_A_FILE)
            else:
                failed.append((path, error))
        return None


def _overlap(one: str, other: str) -> bool:
    """Return whether one of two real paths is inside the other."""
    return os.path.commonpath([one, other]) in (one, other)
