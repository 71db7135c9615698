"""The place of a file or folder: a path on this machine, or a key in a bucket.

A local path may be relative, begin with `~`, or be a `file://` URI, which is the only form that is percent-decoded. The
key of an `s3://` URI is taken literally, so `#`, `%`, `?` and spaces in names survive.
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
    """The place of a file or folder. `Uri.parse` makes one; `str()` shows it without credentials.

    It is picklable and holds no connection; each process makes its own.

    Attributes:
        text: the normalised URI, for programs: an absolute local path (as `file://` where its bytes are not UTF-8), or
            `s3://bucket/key` without a slash at the end.
        path: the path for `filesystem`: the absolute local path, or `bucket/key`.
        is_remote: whether it is in object storage, which every machine can reach, rather than on this disk.
    """

    text: str
    path: str = field(compare=False, repr=False)
    is_remote: bool = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Parse a URI from a person or a table, without checking whether anything is there.

        Raises:
            StorageError: mgc does not know this kind of URI, or it names no bucket or holds credentials.
        """
        if text.startswith(_S3):
            bucket, key = _split(text)
            path = f"{bucket}/{key}".rstrip("/")
            return cls(f"{_S3}{path}", path, True)
        return cls.of_path(_local_path(text))

    @classmethod
    def of_path(cls, path: str | Path) -> Uri:
        """Return the place of an absolute local path."""
        path = str(path)
        try:
            path.encode()
        except UnicodeEncodeError:
            return cls("file://" + urllib.parse.quote_from_bytes(os.fsencode(path)), path, False)
        return cls(path, path, False)

    @classmethod
    def of_key(cls, bucket: str, key: str) -> Uri:
        """Return the place of an object."""
        path = f"{bucket}/{key}".rstrip("/")
        return cls(f"{_S3}{path}", path, True)

    def __str__(self) -> str:
        return redact(self.text)

    def __truediv__(self, below: str) -> Uri:
        """Return a place below this one: `uri / "y" / "z.json"`, or `uri / "y/z.json"`.

        The name may come from a store or a table that others write. On a disk `..` would lead out of this folder, and
        to whatever file its writer likes; in a bucket it is part of a key like any other.

        Raises:
            StorageError: it is not below this folder.
        """
        below = below.strip("/")
        if not below:
            return self
        if not self.is_remote and ".." in below.split("/"):
            raise StorageError(f"{self}: {one_line(below)[:120]} would lie outside of this folder; rename it.")
        path = f"{self.path.rstrip('/')}/{below}"
        return Uri(f"{_S3}{path}", path, True) if self.is_remote else Uri.of_path(path)

    @property
    def bucket(self) -> str:
        """The bucket of an object; "" for a local path."""
        return self.path.partition("/")[0] if self.is_remote else ""

    @property
    def key(self) -> str:
        """The literal key of an object; "" for a whole bucket and for a local path."""
        return self.path.partition("/")[2] if self.is_remote else ""

    @property
    def name(self) -> str:
        """The part after the last slash."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Uri:
        """The folder above it. The root of a disk and a bucket are their own parents."""
        above, slash, _ = self.path.rpartition("/")
        if self.is_remote:
            return Uri(f"{_S3}{above}", above, True) if slash else self
        return Uri.of_path(above or "/")

    @property
    def local(self) -> Path:
        """The path on this machine's disk.

        Raises:
            StorageError: it is in object storage.
        """
        if self.is_remote:
            raise StorageError(f"{self}: this is not a local path; name a folder or file of this machine.")
        return Path(self.path)

    @property
    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Pyarrow's filesystem, with a connection of this process.

        Raises:
            StorageError: the S3 settings are incomplete.
        """
        # These imports are local because a command line that only names a place must start quickly.
        import pyarrow.fs

        from cluster.storage import s3

        return s3.connection(self.text).filesystem if self.is_remote else pyarrow.fs.LocalFileSystem()

    @property
    def storage_options(self) -> dict[str, str] | None:
        """The options with which deltalake reaches it; None for a local path. See `s3.storage_options`."""
        from cluster.storage import s3

        return s3.storage_options(self.text) if self.is_remote else None


def _local_path(uri: str) -> str:
    if uri.startswith("file://"):
        host, slash, rest = uri.removeprefix("file://").partition("/")
        if host not in ("", "localhost"):
            raise StorageError(f"{redact(uri)}: a file URI names no host; write file:///path or just the path.")
        # Decoded as bytes, so that a name that is not UTF-8 comes back as the operating system has it.
        path = os.fsdecode(urllib.parse.unquote_to_bytes(slash + rest))
    elif "://" in uri:
        raise StorageError(f"{redact(uri)}: cannot read this kind of URI; use a local path or s3://bucket/key.")
    else:
        path = uri
    if not path or "\0" in path:
        raise StorageError(f"{one_line(path)!r} is not a path; use a local path or s3://bucket/key.")
    try:
        return os.path.normpath(Path(path).expanduser().absolute())
    except RuntimeError:
        raise StorageError(f"{redact(uri)}: there is no home directory of that user; write the whole path.") from None


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if "@" in bucket or ":" in bucket:
        # The message omits the URI, because the text before the bucket may be a password.
        raise StorageError(f"an s3:// URI names a bucket only, no credentials and no port; {CREDENTIALS_HINT}.")
    if not bucket:
        raise StorageError(f"{redact(uri)}: no bucket is named; write s3://bucket/key.")
    return bucket, key
