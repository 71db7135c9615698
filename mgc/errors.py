"""One tree of errors. Each message is one line: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from mgc.credentials import without_credentials


class MgcError(Exception):
    """Base of every error that mgc raises on purpose.

    A job prints the message as a single line on stderr and ends with a non-zero exit code. So a message names the thing
    (track, field, file), the place (URI, column, byte) and the remedy. A line break inside, from a file name or another
    library's text, becomes a space.
    """

    def __init__(self, message: str) -> None:
        self._message = " ".join(message.splitlines())
        super().__init__(self._message)

    def __str__(self) -> str:
        """Return the message. Ray Data appends advice on retries to the `args` of what a worker raises."""
        return self._message

    def __reduce__(self) -> tuple[type[MgcError], tuple[object, ...]]:
        """Carry the message between processes, not `args`."""
        return type(self), (self._message,)


class ConfigError(MgcError):
    """What was asked for is wrong: a field, a recipe or a value of an option, or a file of settings.

    A job ends with the exit code of a wrong command line.
    """


class CatalogError(MgcError):
    """A catalog lacks a required column, repeats a track id, has no tracks, leaves its roots, or is too large."""


class FeaturesError(MgcError):
    """Features are missing or malformed, or come from a different front end than the requested one."""


class BundleError(MgcError):
    """A bundle is missing, corrupt, or does not fit the front end or the taxonomy in use."""


class StorageError(MgcError):
    """A URI cannot be listed, read or written: it does not exist, access is denied, or the disk is full."""


class TrainingError(MgcError):
    """Training cannot go on: the loss is not finite, there is nothing to learn from, or a checkpoint does not fit."""


class LabelsError(MgcError):
    """The table of labels or of embeddings cannot be read or committed, or the run would break its invariant."""


class LeakageError(MgcError):
    """Training data is also on another side or was scored, and the protocol does not allow this leak."""


class ResourceError(MgcError):
    """The machine or the cluster lacks a resource that the job needs, or a node runs another mgc."""


class ErrorKind(StrEnum):
    """The reason why a track has no label. Its value is in the column `error_kind` of the labels table."""

    NOT_AUDIO = "not_audio"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNSUPPORTED_CODEC = "unsupported_codec"
    CORRUPT_STREAM = "corrupt_stream"
    TOO_SHORT = "too_short"
    SILENT = "silent"
    NOT_MUSIC = "not_music"
    TOO_LARGE = "too_large"
    FETCH_FAILED = "fetch_failed"
    TIMEOUT = "timeout"
    DECODER_CRASH = "decoder_crash"

    @property
    def permanent(self) -> bool:
        """Whether the same bytes will fail again. Other errors may come from a busy store or machine, or low memory."""
        return self not in (ErrorKind.FETCH_FAILED, ErrorKind.TIMEOUT, ErrorKind.DECODER_CRASH)

    @property
    def is_finding(self) -> bool:
        """Whether nothing went wrong: the track was heard, and there is no music in it."""
        return self in (ErrorKind.SILENT, ErrorKind.NOT_MUSIC)


class AudioError(MgcError):
    """A track's bytes have no usable audio. Its text does not begin with the kind, which stands before it everywhere.

    Attributes:
        kind: the reason, one of `ErrorKind`.
        offset_bytes: start of the damage in the file; None if the decoder does not know it.
    """

    def __init__(self, kind: ErrorKind, message: str, offset_bytes: int | None = None) -> None:
        super().__init__(message.removeprefix(f"{kind}: "))
        self.kind = kind
        self.offset_bytes = offset_bytes

    def __reduce__(self) -> tuple[type[MgcError], tuple[object, ...]]:
        """Also carry kind and offset."""
        return type(self), (self.kind, str(self), self.offset_bytes)


def beneath(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all errors underneath it: causes, contexts, and those that Ray stores in its own."""
    seen: set[int] = set()
    below: list[BaseException | None] = [error]
    while below:
        found = below.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = getattr(found, "cause", None)
        below += [found.__cause__, found.__context__, inner if isinstance(inner, BaseException) else None]
        # Ray Train stores its workers' errors by rank.
        below += list(getattr(found, "worker_failures", {}).values())


def cause(error: BaseException) -> str | None:
    """Return the message of an mgc error underneath another library's error; None if there is none.

    Ray wraps the errors of workers, and keeps some only as text.
    """
    for found in beneath(error):
        # Ray's error for a task also has the class of the original error, but its message is a traceback.
        if isinstance(found, MgcError) and not isinstance(getattr(found, "cause", None), BaseException):
            return str(found)
    for line in reversed(str(error).splitlines()):
        head, colon, text = line.strip().partition(": ")
        if colon and head.startswith("mgc.errors."):
            return text
    return None


def said(error: BaseException) -> str:
    """Return one line for any error: mgc's own message, or the class and the last line of another error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return cause(error) or f"{type(error).__name__}: {lines[-1]}"[:300]


def shorten(error: BaseException) -> str:
    """Return the text of another library's error on one line, without credentials: at most 300 characters.

    Libraries repeat the URI that they were given, and end with a full stop, which is left out too.
    """
    return without_credentials(" ".join(str(error).split()))[:300].rstrip(".")
