"""One tree of errors. Each message is one line: what is wrong, where, and what to do about it."""

from __future__ import annotations

from enum import StrEnum


class MgcError(Exception):
    """Base of every error that mgc raises on purpose.

    A job prints the message as its one line on stderr and ends with a non-zero exit code, so a message names the thing
    (track, field, file), the place (URI, column, byte) and the way out. A line break inside, from a file's name or
    another library's text, becomes a space.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class ConfigError(MgcError):
    """A field of the configuration is unknown, or its value is of the wrong type or out of range."""


class CatalogError(MgcError):
    """A catalog lacks a needed column, repeats a track id, or holds no track."""


class FeaturesError(MgcError):
    """Features are missing, malformed, or were computed by another front end than the one asked for."""


class BundleError(MgcError):
    """A bundle is missing, corrupt, or does not fit the front end or the taxonomy in use."""


class StorageError(MgcError):
    """A URI cannot be listed, read or written: it is not there, access is denied, or the disk is full."""


class TrainingError(MgcError):
    """Training cannot go on: the loss is not finite, there is nothing to learn from, or a checkpoint does not fit."""


class LabelsError(MgcError):
    """The labels table cannot be read or committed, or the run would break its invariant."""


class LeakageError(MgcError):
    """What is trained on stands on the other side too, or was scored, and nobody asked for such a leak."""


class ResourceError(MgcError):
    """The machine or the cluster does not have what the job asks for."""


class ErrorKind(StrEnum):
    """Why a track has no label. The value stands in the column `error_kind` of the labels table."""

    NOT_AUDIO = "not_audio"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNSUPPORTED_CODEC = "unsupported_codec"
    CORRUPT_STREAM = "corrupt_stream"
    TOO_SHORT = "too_short"
    TOO_LARGE = "too_large"
    FETCH_FAILED = "fetch_failed"
    TIMEOUT = "timeout"
    DECODER_CRASH = "decoder_crash"

    @property
    def permanent(self) -> bool:
        """Whether the same bytes will fail again. The others may have met a busy store, machine or memory."""
        return self not in (ErrorKind.FETCH_FAILED, ErrorKind.TIMEOUT, ErrorKind.DECODER_CRASH)


class AudioError(MgcError):
    """A track's bytes hold no audio that can be listened to.

    Attributes:
        kind: the reason, one of `ErrorKind`.
        offset_bytes: where in the file the damage begins, None where the decoder does not know it.
    """

    def __init__(self, kind: ErrorKind, message: str, offset_bytes: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.offset_bytes = offset_bytes

    def __reduce__(self) -> tuple[type[AudioError], tuple[ErrorKind, str, int | None]]:
        """Keep kind and offset when Ray carries the error between processes."""
        return type(self), (self.kind, str(self), self.offset_bytes)


def cause(error: BaseException) -> str | None:
    """The line of an error of ours, somewhere below one that another library raised or printed; None if there is none.

    Ray wraps what a worker raised, and keeps some of it as text only.
    """
    seen: set[int] = set()
    below: list[BaseException | None] = [error]
    while below:
        found = below.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        inner = getattr(found, "cause", None)
        # What Ray raises for a task is of its error's class too, with a traceback for a message.
        if isinstance(found, MgcError) and not isinstance(inner, BaseException):
            return str(found)
        below += [found.__cause__, found.__context__, inner if isinstance(inner, BaseException) else None]
        # Ray Train keeps its workers' errors by rank.
        below += list(getattr(found, "worker_failures", {}).values())
    for line in reversed(str(error).splitlines()):
        head, colon, text = line.strip().partition(": ")
        if colon and head.startswith("mgc.errors."):
            return text
    return None


def said(error: BaseException) -> str:
    """One line for any error: ours, or the last line of its text with its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return cause(error) or f"{type(error).__name__}: {lines[-1]}"[:300]


def shorten(error: BaseException) -> str:
    """Return the text of another library's error on one line: at most 300 characters, without the full stop."""
    return " ".join(str(error).split())[:300].rstrip(".")
