"""List the audio files of SOURCE (a folder, a file, an `s3://` prefix or an object) in order of track id.

Requests to S3 go one after another here. `cluster.storage.listing_s3` lists a large prefix in parallel, with the same
outcome.

The file name says what is audio. A file that is not audio after all is quarantined with its reason when it is decoded.
`.mp4` counts as ignored, since it mostly holds video.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from botocore.exceptions import ClientError

from cluster.storage import files, s3
from cluster.storage.failures import error_code, explain
from cluster.storage.uri import Uri
from mgc.errors import StorageError

AUDIO_EXTENSIONS: Final = frozenset(
    {".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
)
"""Extensions of audio files, in lower case. The case of a file name does not matter."""

HIDDEN: Final = "hidden"
"""The name for files and folders that begin with a dot; a hidden folder counts once."""

NOT_A_FILE: Final = "not a file"
"""The name for links that lead nowhere or into SOURCE itself, pipes, sockets and devices."""

NO_EXTENSION: Final = "no extension"


@dataclass(frozen=True, slots=True)
class FileFact:
    r"""One audio file as the store describes it.

    Attributes:
        track_id: the path below SOURCE, with `/` between folders; for a single file its name. Bytes of a local name
            that are not UTF-8 are written as `\xNN`.
        uri: place to fetch it from, as text, because the catalog takes millions of them as text.
        size_bytes: size of the file. An empty file is listed too, and ends in quarantine as `empty`.
        content_tag: text that changes when the bytes change. On S3 it is the ETag; locally it is the modification time
            in nanoseconds and the size, both in hexadecimal.
    """

    track_id: str
    uri: str
    size_bytes: int
    content_tag: str


def list_audio(source: Uri | str, ignored: Counter[str] | None = None) -> Iterator[FileFact]:
    """Stream the audio files of SOURCE, sorted by track id.

    Follows links to folders, each folder once, unless they lead back into SOURCE.

    Args:
        source: a local folder or file, an `s3://` prefix or object.
        ignored: counter that collects the ignored files: by extension in lower case (`.jpg`), or as `HIDDEN`,
            `NOT_A_FILE`, `NO_EXTENSION`.

    Raises:
        StorageError: nothing is there, or a part of it cannot be listed. A catalog that lacks a part would look
            complete.
    """
    counts: Counter[str] = Counter() if ignored is None else ignored
    source = Uri.parse(source)
    with explain(source, "list"):
        yield from _list_s3(source, counts) if source.is_remote else _list_local(source, counts)


def content_tag(status: os.stat_result) -> str:
    """Return the content tag of a local file."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def etag(quoted: str) -> str:
    """Return the content tag of an S3 object from its ETag header."""
    return quoted.strip('"')


def _is_audio(name: str, ignored: Counter[str]) -> bool:
    extension = PurePosixPath(name).suffix.lower()
    if extension in AUDIO_EXTENSIONS:
        return True
    ignored[extension or NO_EXTENSION] += 1
    return False


def _list_local(source: Uri, ignored: Counter[str]) -> Iterator[FileFact]:
    root = source.path
    status = source.local.stat()
    if stat.S_ISDIR(status.st_mode):
        # The real path reveals links back into SOURCE; the identity reveals two links to one folder outside.
        yield from _walk(root, "", os.path.realpath(root), {(status.st_dev, status.st_ino)}, ignored)
    elif not stat.S_ISREG(status.st_mode):
        raise StorageError(f"cannot list {source}: it is neither a folder nor a file; name a folder of music.")
    elif _is_audio(root, ignored):
        yield FileFact(_shown(source.name), source.text, status.st_size, content_tag(status))


def _walk(
    folder: str, prefix: str, real_root: str, seen: set[tuple[int, int]], ignored: Counter[str]
) -> Iterator[FileFact]:
    """Yield the files below a folder; `prefix` is the folder's part of the track ids."""
    found: list[tuple[str, os.DirEntry[str], os.stat_result]] = []
    with explain(Uri.of_path(folder), "list"), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                ignored[HIDDEN] += 1
                continue
            try:
                status = entry.stat()
            except OSError as error:
                # This is a link to nowhere, in a circle or to a forbidden place, or a file that is gone by now.
                if not (entry.is_symlink() or isinstance(error, FileNotFoundError)):
                    raise
                ignored[NOT_A_FILE] += 1
                continue
            # With a slash at the end, a folder sorts among files as its track ids do.
            shown = _shown(entry.name) + ("/" if stat.S_ISDIR(status.st_mode) else "")
            found.append((shown, entry, status))
    for shown, entry, status in sorted(found, key=lambda each: each[0]):
        if stat.S_ISDIR(status.st_mode):
            identity = (status.st_dev, status.st_ino)
            if identity in seen or (entry.is_symlink() and _overlap(os.path.realpath(entry.path), real_root)):
                ignored[NOT_A_FILE] += 1
                continue
            seen.add(identity)
            yield from _walk(entry.path, prefix + shown, real_root, seen, ignored)
        elif not stat.S_ISREG(status.st_mode):
            ignored[NOT_A_FILE] += 1
        elif _is_audio(entry.name, ignored):
            yield FileFact(prefix + shown, Uri.of_path(entry.path).text, status.st_size, content_tag(status))


def _overlap(one: str, other: str) -> bool:
    """Return whether one of two real paths is inside the other."""
    return os.path.commonpath([one, other]) in (one, other)


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class Sieve:
    """Separates tracks from the other keys of an S3 prefix. The keys come in order.

    Attributes:
        prefix: prefix of the keys: empty, or ending in a slash.
        ignored: counts of the other keys, as in `list_audio`.
        hidden: the first and the last hidden file or folder met, or None. When two stretches of keys are sieved apart,
            the second counts one too many if it begins with the one that the first ended with.
    """

    def __init__(self, prefix: str, ignored: Counter[str] | None = None) -> None:
        self.prefix = prefix
        self.ignored: Counter[str] = Counter() if ignored is None else ignored
        self.hidden: tuple[str, str] | None = None

    def track_id(self, key: str) -> str | None:
        """Return the track id of an audio file. For any other key, count it and return None."""
        track_id = key[len(self.prefix) :]
        if not track_id or track_id.endswith("/"):
            return None  # some programs leave a marker for an empty folder
        hidden = _hidden_part(track_id)
        if hidden is not None:
            if self.hidden is None:
                self.hidden = (hidden, "")
            first, last = self.hidden
            self.ignored[HIDDEN] += hidden != last
            self.hidden = (first, hidden)
            return None
        return track_id if _is_audio(track_id, self.ignored) else None


def key_prefix(folder: Uri) -> str:
    """Return the prefix of the keys below an `s3://` folder: empty, or the folder with a slash at the end."""
    return folder.key.rstrip("/") + "/" if folder.key.strip("/") else ""


def _list_s3(source: Uri, ignored: Counter[str]) -> Iterator[FileFact]:
    bucket, key, prefix = source.bucket, source.key, key_prefix(source)
    client = s3.client(source)
    sieve = Sieve(prefix, ignored)
    anything = False
    pages = client.get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": files.PAGE_KEYS}):
        for item in page.get("Contents", ()):
            anything = True
            track_id = sieve.track_id(item["Key"])
            if track_id is not None:
                yield FileFact(track_id, f"s3://{bucket}/{item['Key']}", item["Size"], etag(item["ETag"]))
    if anything or not prefix:
        return
    try:
        head = client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) != "404":
            raise
        raise StorageError(f"cannot list {source}: no object is there; check the prefix.") from None
    name = key.rpartition("/")[2]
    if _is_audio(name, ignored):
        yield FileFact(name, f"s3://{bucket}/{key}", head["ContentLength"], etag(head["ETag"]))


def _hidden_part(track_id: str) -> str | None:
    """Return the path up to its first hidden part, or None."""
    if not track_id.startswith(".") and "/." not in track_id:
        return None
    parts = track_id.split("/")
    for index, part in enumerate(parts):
        if part.startswith("."):
            return "/".join(parts[: index + 1])
    return None
