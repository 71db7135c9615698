"""Parquet under any URI: opened and checked, errors put in words, written whole."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow import fs

from cluster.storage import files
from cluster.storage.failures import explain, redact
from cluster.storage.s3 import s3_client
from cluster.storage.uri import Location, is_remote, join, local_path, locate, split_s3
from mgc.errors import MgcError

FOOTERS_AT_ONCE: Final = 16
"""Files opened side by side to look at their columns: object storage answers slowly, but many at a time."""

ROW_GROUP: Final = 131_072
"""Rows of a table that are written, and read, at a time."""


def is_parquet(uri: str) -> bool:
    """Whether a URI names a Parquet file by its ending."""
    return uri.rstrip("/").lower().endswith((".parquet", ".pq"))


def open_parquet(
    uri: str,
    missing: str,
    error: type[MgcError],
    columns: pa.Schema | None = None,
    check: Callable[[pa.Schema, str], object] | None = None,
) -> pads.Dataset:
    """A Parquet file, or the Parquet files of a folder, as one dataset.

    Files and folders whose names begin with a dot or an underscore are not looked at.

    Args:
        uri: where.
        missing: what to do when there is nothing, for the message.
        error: raised when there is nothing, or it is no Parquet.
        columns: the dataset's schema, to which whatever lies in the files is cast (a column that is not there is null);
            by default that of the first file.
        check: called with the schema and the URI of every file, to refuse it.
    """
    location = locate(uri)
    with reading(uri, missing, error):
        if not files.exists(uri):
            raise error(_sentence(f"{redact(uri)}: there is nothing here.", missing))
        paths = _parquet_files(location)
        if not paths:
            raise error(_sentence(f"{redact(uri)}: no Parquet file in this folder.", missing))
        dataset = pads.dataset(paths, schema=columns, filesystem=location.filesystem, format="parquet")
        if check is not None:
            fragments = list(dataset.get_fragments())
            with ThreadPoolExecutor(max_workers=min(FOOTERS_AT_ONCE, len(fragments))) as threads:
                for fragment, found in zip(
                    fragments, threads.map(lambda each: each.physical_schema, fragments), strict=True
                ):
                    check(found, redact(location.uri + fragment.path.removeprefix(location.path)))
        return dataset


@contextlib.contextmanager
def reading(uri: str, remedy: str, error: type[MgcError]) -> Iterator[None]:
    """Turn what pyarrow and DuckDB raise on damaged Parquet into `error`, and what storage raises into StorageError.

    Args:
        uri: what is read, for the message.
        remedy: what to do about damage.
        error: of which class.
    """
    with explain(uri, "read"):
        try:
            yield
        except (pa.ArrowException, duckdb.InvalidInputException, OSError) as fault:
            if isinstance(fault, OSError) and fault.errno is not None:
                raise
            text = str(fault)
            if any(sign in text for sign in ("AWS Error", "[errno ", "(os error ")):
                # DuckDB passes on in words what the file system said; `explain` understands them.
                raise OSError(text) from None
            reason = " ".join(redact(text).removeprefix("Invalid Input Error: ").split())[:300].rstrip(".")
            raise error(_sentence(f"{redact(uri)}: cannot be read as Parquet ({reason}).", remedy)) from None


def _sentence(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _parquet_files(location: Location) -> list[str]:
    """Paths of the Parquet files of a folder, or of the one file."""
    if location.filesystem.get_file_info(location.path).type == fs.FileType.File:
        return [location.path]
    infos = location.filesystem.get_file_info(fs.FileSelector(location.path, recursive=True))
    return sorted(
        info.path
        for info in infos
        if info.type == fs.FileType.File
        and is_parquet(info.path)
        and not any(part.startswith((".", "_")) for part in info.path.removeprefix(location.path).split("/"))
    )


@contextlib.contextmanager
def whole_file(uri: str) -> Iterator[Path]:
    """A path to write to; what lies there at the end becomes the file `uri` at once, nothing does after an error."""
    with explain(uri, "write"):
        if is_remote(uri):
            bucket, key = split_s3(uri)
            with tempfile.NamedTemporaryFile(prefix="mgc-catalog-") as file:
                yield Path(file.name)
                file.seek(0)
                # In parts of 8 MiB that become an object when all are there.
                s3_client(uri).upload_fileobj(file, bucket, key)
            return
        path = Path(local_path(uri))
        if path.exists() and not path.is_file():
            # A folder, or a device or pipe that the rename below would put a file in place of.
            raise IsADirectoryError(errno.EISDIR, "not a regular file", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".mgc-{uuid.uuid4().hex}.tmp")
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_part(folder_uri: str, table: pa.Table, row_group: int = 2048, name: str | None = None) -> None:
    """Add a Parquet file to a folder; it is there whole or not at all. Without a name it gets one that no other has."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group)
    part = f"part-{name or uuid.uuid4().hex}.parquet"
    files.write_bytes(join(folder_uri, part), sink.getvalue().to_pybytes())
