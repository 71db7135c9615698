"""Where something lies: a path on this machine, or a key in a bucket.

Local paths may be relative, begin with `~`, or be written as `file://` (the only form that is percent-decoded). In
`s3://` URIs the key is taken literally, so that `#`, `%`, `?` and spaces in names survive.
"""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cluster.storage.redaction import CREDENTIALS_HINT, one_line, redact
from mgc.errors import StorageError

if TYPE_CHECKING:
    import pyarrow.fs

_S3: Final = "s3://"


@dataclass(frozen=True, slots=True)
class Uri:
    """A place of files. Make one with `Uri.parse`; `str()` is what to show, without credentials.

    Picklable, and free of connections: each process makes its own.

    Attributes:
        text: the whole URI, normalised: an absolute local path (as `file://` where its bytes are not UTF-8), or
            `s3://bucket/key` without a slash at the end. For programs; people are shown `str()`.
        path: what `filesystem` takes: the absolute local path, or `bucket/key`.
        is_remote: whether it lies in object storage, to which every machine has access, and not on this machine's disk.
    """

    text: str
    path: str = field(compare=False, repr=False)
    is_remote: bool = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str | Uri) -> Uri:
        """The place that a person or a table names, without asking whether anything is there.

        Raises:
            StorageError: the URI is of no kind that mgc knows, names no bucket, or holds credentials.
        """
        if isinstance(text, Uri):
            return text
        if text.startswith(_S3):
            bucket, key = _split(text)
            path = f"{bucket}/{key}".rstrip("/")
            return cls(f"{_S3}{path}", path, True)
        return cls.of_path(_local_path(text))

    @classmethod
    def of_path(cls, path: str | Path) -> Uri:
        """The place of an absolute local path."""
        path = str(path)
        try:
            path.encode()
        except UnicodeEncodeError:
            return cls("file://" + urllib.parse.quote_from_bytes(os.fsencode(path)), path, False)
        return cls(path, path, False)

    @classmethod
    def of_key(cls, bucket: str, key: str) -> Uri:
        """The place of an object."""
        path = f"{bucket}/{key}".rstrip("/")
        return cls(f"{_S3}{path}", path, True)

    def __str__(self) -> str:
        return redact(self.text)

    def __truediv__(self, below: str) -> Uri:
        """A place below this one: `uri / "y" / "z.json"`, or `uri / "y/z.json"`."""
        below = below.strip("/")
        if not below:
            return self
        path = f"{self.path.rstrip('/')}/{below}"
        return Uri(f"{_S3}{path}", path, True) if self.is_remote else Uri.of_path(path)

    @property
    def bucket(self) -> str:
        """Of an object, or ""."""
        return self.path.partition("/")[0] if self.is_remote else ""

    @property
    def key(self) -> str:
        """Of an object, literal; "" for a whole bucket and for a local path."""
        return self.path.partition("/")[2] if self.is_remote else ""

    @property
    def name(self) -> str:
        """What stands behind the last slash."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Uri:
        """The folder that it lies in; the root of a disk and a bucket are their own."""
        above, slash, _ = self.path.rpartition("/")
        if self.is_remote:
            return Uri(f"{_S3}{above}", above, True) if slash else self
        return Uri.of_path(above or "/")

    @property
    def local(self) -> Path:
        """The path on this machine's disk.

        Raises:
            StorageError: it lies in object storage.
        """
        if self.is_remote:
            raise StorageError(f"{self}: this is no local path.")
        return Path(self.path)

    @property
    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Pyarrow's, connected by this process.

        Raises:
            StorageError: the S3 settings are incomplete.
        """
        # Here and below: only who reaches for a place pays for these imports, not who names one on a command line.
        import pyarrow.fs

        from cluster.storage import s3

        return s3.connection(self.text).filesystem if self.is_remote else pyarrow.fs.LocalFileSystem()

    @property
    def storage_options(self) -> dict[str, str] | None:
        """What deltalake needs to reach it; None for a local path. May hold credentials: see `s3.storage_options`."""
        from cluster.storage import s3

        return s3.storage_options(self.text) if self.is_remote else None


def _local_path(uri: str) -> str:
    if uri.startswith("file://"):
        host, slash, rest = uri.removeprefix("file://").partition("/")
        if host not in ("", "localhost"):
            raise StorageError(f"{redact(uri)}: a file URI names no host; write file:///path or just the path.")
        # By bytes, so that a name that is not UTF-8 comes back as the operating system has it.
        path = os.fsdecode(urllib.parse.unquote_to_bytes(slash + rest))
    elif "://" in uri:
        raise StorageError(f"{redact(uri)}: cannot read this kind of URI; use a local path or s3://bucket/key.")
    else:
        path = uri
    if not path or "\0" in path:
        raise StorageError(f"{one_line(path)!r} is no path; use a local path or s3://bucket/key.")
    try:
        return os.path.normpath(Path(path).expanduser().absolute())
    except RuntimeError:
        raise StorageError(f"{redact(uri)}: there is no home directory of that user; write the whole path.") from None


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if "@" in bucket or ":" in bucket:
        # The message leaves the URI out: what stands before the bucket may be a password.
        raise StorageError(f"an s3:// URI names a bucket only, no credentials and no port; {CREDENTIALS_HINT}.")
    if not bucket:
        raise StorageError(f"{redact(uri)}: no bucket is named; write s3://bucket/key.")
    return bucket, key


# For callers that still pass text; to go when every room takes a `Uri`.


@dataclass(frozen=True)
class Location:
    """Where a URI leads."""

    uri: str
    filesystem: pyarrow.fs.FileSystem
    path: str


def locate(uri: str | Uri) -> Location:
    """A place as text, filesystem and path."""
    place = Uri.parse(uri)
    return Location(place.text, place.filesystem, place.path)


def is_remote(uri: str | Uri) -> bool:
    """Whether a URI lies in object storage."""
    return uri.is_remote if isinstance(uri, Uri) else uri.startswith(_S3)


def local_path(uri: str | Uri) -> str:
    """The absolute path of a local URI."""
    return uri.path if isinstance(uri, Uri) else _local_path(uri)


def local_uri(path: str) -> str:
    """The URI of an absolute local path."""
    return Uri.of_path(path).text


def split_s3(uri: str | Uri) -> tuple[str, str]:
    """Bucket and key."""
    return _split(uri.text if isinstance(uri, Uri) else uri)


def join(uri: str | Uri, *parts: str) -> str:
    """A URI below another one."""
    below = [part.strip("/") for part in parts]
    text = uri.text if isinstance(uri, Uri) else uri
    return "/".join([text.rstrip("/"), *(part for part in below if part)])
