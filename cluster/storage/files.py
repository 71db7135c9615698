"""Look up, read, write, list and delete whole files under any URI. Each failure is a StorageError of one line."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
from botocore.exceptions import ClientError

from cluster.storage import s3, sealed
from cluster.storage.failures import error_code, explain
from cluster.storage.uri import Uri
from mgc.errors import StorageError

PAGE_KEYS: Final = 1000
"""The most keys that S3 lists, or deletes, in one request."""


def exists(uri: Uri, asked: Uri | None = None) -> bool:
    """Return whether a file or a folder is there.

    Args:
        uri: the place.
        asked: the place that a person asked for, for messages; by default the same.

    Raises:
        StorageError: also for a missing bucket, since nothing could be written there.
    """
    with explain(asked or uri, "look up"):
        if not uri.is_remote:
            return uri.local.exists()
        if asked is not None:
            s3.client(asked)
        # The listing comes first: a HEAD cannot tell a missing bucket from a missing object.
        return any(True for _ in _keys(uri, limit=1)) or not uri.key or _is_object(uri)


def read_bytes(uri: Uri) -> bytes:
    """Read a whole file."""
    with explain(uri, "read"):
        if not uri.is_remote:
            return uri.local.read_bytes()
        return s3.client(uri).get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read()


def read_text(uri: Uri) -> str:
    """Read a whole file of UTF-8 text."""
    data = read_bytes(uri)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise StorageError(f"{uri}: not UTF-8 text (byte {error.start}); write the file anew.") from None


def write_bytes(uri: Uri, data: bytes) -> None:
    """Write a whole file, and the local folders above it.

    A reader finds the old file or the new one, never half.
    """
    with explain(uri, "write"):
        if uri.is_remote:
            s3.client(uri).put_object(Bucket=uri.bucket, Key=uri.key, Body=data)
            return
        with replacing(uri.local) as temporary:
            temporary.write_bytes(data)


def write_table(uri: Uri, table: pa.Table, row_group_rows: int | None = None) -> None:
    """Write a table as one sealed Parquet file; a reader finds the old file or the new one. See `sealed`.

    Args:
        uri: the file.
        table: its rows, all in memory.
        row_group_rows: rows in a row group; None for pyarrow's default.
    """
    write_bytes(uri, sealed.encode(table, row_group_rows))


def read_table(uri: Uri) -> pa.Table:
    """Read a file that `write_table` wrote.

    Raises:
        DamageError: a bit of the file has changed since.
        StorageError: the file cannot be read.
    """
    return sealed.decode(read_bytes(uri))


@contextlib.contextmanager
def writing(uri: Uri) -> Iterator[Path]:
    """Yield a local path to write to. The finished file becomes `uri`.

    A local file is written next to its target and renamed. An object is written to the folder for temporary files and
    uploaded in parts, which the store joins at the end. After an error nothing is left.

    Raises:
        StorageError: the file cannot be written, by the block or at the end.
    """
    with explain(uri, "write"):
        if not uri.is_remote:
            with replacing(uri.local) as path:
                yield path
            return
        with tempfile.TemporaryDirectory(prefix="mgc-upload-") as folder:
            path = Path(folder, "file")
            yield path
            with path.open("rb") as file:
                s3.client(uri).upload_fileobj(file, uri.bucket, uri.key)


def list_uris(prefix: Uri) -> list[Uri]:
    """List all files below a folder, in order of their text; none if there is no such folder."""
    with explain(prefix, "list"):
        if prefix.is_remote:
            keys = sorted(key for key in _keys(prefix) if not key.endswith("/"))
            return [Uri.of_key(prefix.bucket, key) for key in keys]
        found: list[str] = []
        for folder, _, names in os.walk(prefix.path, onerror=_raise):
            found.extend(f"{folder.rstrip('/')}/{name}" for name in names)
        return sorted(map(Uri.of_path, found), key=lambda uri: uri.text)


def delete(uri: Uri) -> None:
    """Delete a file or a whole folder, if there is one.

    Raises:
        StorageError: also for a whole bucket or the root of the disk, which this never deletes.
    """
    with explain(uri, "delete"):
        if not uri.is_remote:
            path = uri.local
            if path == Path(path.anchor):
                raise StorageError(f"{uri}: will not delete the root of the disk; name a folder below it.")
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return
        if not uri.key:
            raise StorageError(f"{uri}: will not delete a whole bucket; name a folder below it.")
        doomed = [*_keys(uri), uri.key]
        for first in range(0, len(doomed), PAGE_KEYS):
            request = {"Objects": [{"Key": each} for each in doomed[first : first + PAGE_KEYS]], "Quiet": True}
            answer = s3.client(uri).delete_objects(Bucket=uri.bucket, Delete=request)
            for refusal in answer.get("Errors", ()):
                raise ClientError({"Error": refusal}, "DeleteObjects")


def move(source: Uri, target: Uri) -> None:
    """Move a small file, within one disk or one bucket. In a bucket it is at both places for a moment."""
    with explain(source, "move"):
        if not source.is_remote:
            target.local.parent.mkdir(parents=True, exist_ok=True)
            source.local.replace(target.local)
            return
    write_bytes(target, read_bytes(source))
    delete(source)


def copy_tree(source: Uri, target: Uri) -> None:
    """Copy a file or a folder of small files, such as a bundle, between any two places, file by file.

    Raises:
        StorageError: also when there is nothing to copy, or a file would lie outside of `target`; nothing is written
            then.
    """
    copies = [(uri, target / uri.path.removeprefix(source.path)) for uri in list_uris(source)]
    for uri, copy in copies:
        write_bytes(copy, read_bytes(uri))
    if not copies:
        write_bytes(target, read_bytes(source))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which is renamed to `path` at the end and deleted after an error.

    Makes the folder. The bytes are on the disk before the file has its name.

    Raises:
        IsADirectoryError: `path` is a folder, a device or a pipe, which the rename would replace.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise IsADirectoryError(errno.EISDIR, "not a regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".mgc-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _is_object(uri: Uri) -> bool:
    try:
        s3.client(uri).head_object(Bucket=uri.bucket, Key=uri.key)
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchKey", "NotFound"):
            return False
        raise
    return True


def _keys(uri: Uri, limit: int | None = None) -> Iterator[str]:
    """Yield the keys below a folder, `limit` a request."""
    prefix = uri.key + "/" if uri.key else ""
    pages = s3.client(uri).get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=uri.bucket, Prefix=prefix, PaginationConfig={"PageSize": limit or PAGE_KEYS}):
        yield from (each["Key"] for each in page.get("Contents", ()))


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
