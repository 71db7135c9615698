"""Open, check and write Parquet under any URI, with errors in plain words."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
from pyarrow import fs

from cluster.storage import files, sealed
from cluster.storage.failures import explain, redact
from cluster.storage.sealed import DamageError
from cluster.storage.uri import Uri
from mgc.errors import MgcError

FOOTERS_AT_ONCE: Final = 16
"""Files to open at a time to read their columns. Object storage is slow, but answers many requests at once."""

ROW_GROUP: Final = 131_072
"""Rows of a table to write, and to read, at a time."""


CHECKED: Final = pads.ParquetFileFormat(
    default_fragment_scan_options=pads.ParquetFragmentScanOptions(page_checksum_verification=True)
)
"""The format with which mgc opens Parquet: readers verify the checksum of every page that has one."""


def is_parquet(uri: Uri) -> bool:
    """Return whether the ending of a URI names a Parquet file."""
    return uri.name.lower().endswith((".parquet", ".pq"))


def open_parquet(
    uri: Uri,
    missing: str,
    error: type[MgcError],
    columns: pa.Schema | None = None,
    check: Callable[[pa.Schema, str], object] | None = None,
    damaged: str | None = None,
) -> pads.FileSystemDataset:
    """Open a Parquet file, or the Parquet files of a folder, as one dataset.

    Skips files and folders whose names begin with a dot or an underscore. Readers of the dataset verify the checksums
    of pages.

    Args:
        uri: the file or the folder.
        missing: advice for the message if nothing is there.
        error: the error to raise if nothing is there, or it is not Parquet.
        columns: the schema of the dataset, to which the files are cast (a missing column is null); by default that of
            the first file.
        check: a function that gets the schema and the URI of every file, and raises to refuse it. With it, footers are
            checked against their seals.
        damaged: advice for the message about a file whose footer is damaged; by default `missing`.

    Raises:
        MgcError: see the argument `error`.
        StorageError: the place cannot be read.
    """
    filesystem = uri.filesystem
    with reading(uri, missing, error):
        if not files.exists(uri):
            raise error(_sentence(f"{uri}: there is nothing here.", missing))
        paths = _parquet_files(uri, filesystem)
        if not paths:
            raise error(_sentence(f"{uri}: no Parquet file in this folder.", missing))
        dataset = pads.dataset(paths, schema=columns, filesystem=filesystem, format=CHECKED)
        if check is not None:

            def read_footer(fragment: pads.Fragment) -> tuple[pa.Schema, str]:
                place = uri / fragment.path.removeprefix(uri.path)
                with reading(place, missing if damaged is None else damaged, error):
                    sealed.check_footer(filesystem, fragment.path)
                    return fragment.physical_schema, str(place)

            fragments = list(dataset.get_fragments())
            with ThreadPoolExecutor(max_workers=min(FOOTERS_AT_ONCE, len(fragments))) as threads:
                for found, place in threads.map(read_footer, fragments):
                    check(found, place)
        return dataset


@contextlib.contextmanager
def reading(uri: object, remedy: str, error: type[MgcError]) -> Iterator[None]:
    """Turn what pyarrow and DuckDB raise on damaged Parquet into `error`, and what storage raises into StorageError.

    Args:
        uri: the place, or the name of what is read, for the message.
        remedy: advice about damage, for the message.
        error: the class of the error for damage.
    """
    with explain(uri, "read"):
        try:
            yield
        except (DamageError, UnicodeDecodeError, pa.ArrowException, duckdb.InvalidInputException, OSError) as fault:
            if isinstance(fault, OSError) and fault.errno is not None:
                raise
            text = str(fault)
            if any(sign in text for sign in ("AWS Error", "[errno ", "(os error ")):
                # DuckDB repeats the words of the file system, which `explain` understands.
                raise OSError(text) from None
            reason = " ".join(redact(text).removeprefix("Invalid Input Error: ").split())[:300].rstrip(".")
            raise error(_sentence(f"{redact(str(uri))}: cannot be read as Parquet ({reason}).", remedy)) from None


def _sentence(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _parquet_files(uri: Uri, filesystem: fs.FileSystem) -> list[str]:
    """List the paths of the Parquet files of a folder, or of the one file."""
    if filesystem.get_file_info(uri.path).type == fs.FileType.File:
        return [uri.path]
    infos = filesystem.get_file_info(fs.FileSelector(uri.path, recursive=True))
    return sorted(
        info.path
        for info in infos
        if info.type == fs.FileType.File
        and is_parquet(place_of(filesystem, info.path))
        and not any(part.startswith((".", "_")) for part in info.path.removeprefix(uri.path).split("/"))
    )


def place_of(filesystem: fs.FileSystem, path: str) -> Uri:
    """Return the URI of a path of a dataset's filesystem."""
    return Uri.parse(f"s3://{path}") if filesystem.type_name == "s3" else Uri.of_path(path)


def write_part(folder: Uri, table: pa.Table, row_group_rows: int = 2048, name: str | None = None) -> None:
    """Add a sealed Parquet file to a folder, completely or not at all. Without `name` it gets a unique one."""
    part = f"part-{name or uuid.uuid4().hex}.parquet"
    files.write_table(folder / part, table, row_group_rows)
