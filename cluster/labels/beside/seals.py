"""Digests of the table's data files, so that nothing is built on a file whose bytes have changed.

Delta's writer puts no checksums into its Parquet files. In a file of 5,000 rows, 417 of 1,000 single flipped bits gave
other rows without an error, and a commit that rewrites the file would make them the table's own. So after each commit
mgc records the digests of its new data files in `_seals`. A commit, a rollback, an export, a comparison of versions and
a look at one track compare the digests of the files that they read.

A file without a seal passes: another program wrote it, or a run was killed between its commit and the seal. The next
commit of mgc seals it. Each file of `_seals` holds all seals that its writer knew, and replaces the earlier ones.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from cluster.storage import files
from cluster.storage.failures import explain
from cluster.storage.notice import notice
from cluster.storage.sealed import DamageError
from cluster.storage.uri import Uri
from mgc.errors import LabelsError, StorageError

SEALS: Final = pa.schema(
    [pa.field("file", pa.string(), nullable=False), pa.field("digest", pa.binary(), nullable=False)]
)
"""One row for each data file: its name below the table's folder, and its BLAKE2b digest of 16 bytes."""

FILES_AT_ONCE: Final = 4
"""Data files to read at a time. Each takes `_CHUNK_BYTES` of memory."""

_CHUNK_BYTES: Final = 8 << 20
_DIGEST_BYTES: Final = 16
_TRIES: Final = 5
"""Most tries to read the seals while other runs replace them."""


def check_seals(table_uri: Uri, names: Collection[str]) -> None:
    """Compare data files with their seals.

    Args:
        table_uri: folder of the labels table.
        names: names of the data files.

    Raises:
        LabelsError: the bytes of a file have changed since it was sealed.
        StorageError: a file cannot be read.
    """
    for name in _find_changed(table_uri, names, _read(table_uri)[0]):
        raise LabelsError(
            f"{table_uri / name}: the bytes of this file of the labels table have changed since mgc wrote it. "
            "Restore the file from a copy, or go back to a version without it (`mgc labels history`, `mgc labels "
            "rollback`)."
        )


def find_lost(table_uri: Uri, names: Collection[str]) -> set[str]:
    """Return the data files whose rows are lost: they are not there, their bytes have changed, or nobody can read them.

    Args:
        table_uri: folder of the labels table.
        names: names of the data files.

    Raises:
        StorageError: the store does not answer.
    """
    known, _ = _read(table_uri)
    missing = {name for name in names if not files.exists(table_uri / name)}
    there = set(names) - missing
    unreadable = {name for name in there - known.keys() if not _is_readable(table_uri / name)}
    return missing | unreadable | set(_find_changed(table_uri, there, known))


def _find_changed(table_uri: Uri, names: Collection[str], known: Mapping[str, bytes]) -> Iterator[str]:
    sealed = [name for name in names if name in known]
    return (name for name, digest in _digests(table_uri, sealed) if digest != known[name])


def _is_readable(uri: Uri) -> bool:
    """Return whether all rows of a file without a seal can be read."""
    try:
        with explain(uri, "read"), uri.filesystem.open_input_file(uri.path) as stream:
            for _ in pq.ParquetFile(stream).iter_batches():
                pass
    except (pa.ArrowException, UnicodeDecodeError, StorageError):
        return False
    return True


def write_seals(table_uri: Uri, names: Collection[str]) -> None:
    """Seal the data files that have no seal. Prints a failure and does not raise it: the commit is done.

    Args:
        table_uri: folder of the labels table.
        names: names of the table's data files.
    """
    try:
        known, earlier = _read(table_uri)
        added = dict(_digests(table_uri, [name for name in names if name not in known]))
        if not added:
            return
        with explain(table_uri, "list"):
            there = {each.base_name for each in table_uri.filesystem.get_file_info(pa.fs.FileSelector(table_uri.path))}
        # Those of files that a vacuum deleted go.
        seals = {name: digest for name, digest in known.items() if name in there} | added
        rows = pa.table([pa.array(seals.keys(), pa.string()), pa.array(seals.values(), pa.binary())], schema=SEALS)
        files.write_table(_folder(table_uri) / f"{uuid.uuid4().hex}.parquet", rows)
        for uri in earlier:
            files.delete(uri)
    except StorageError as error:
        notice(f"The run is committed, but its files could not be sealed: {error}")


def _read(table_uri: Uri) -> tuple[dict[str, bytes], list[Uri]]:
    """Return the digests by name, and the files that hold them."""
    for left in reversed(range(_TRIES)):
        found: dict[str, bytes] = {}
        uris = files.list_uris(_folder(table_uri))
        try:
            for uri in uris:
                try:
                    rows = files.read_table(uri).to_pydict()
                except DamageError as error:
                    notice(f"{uri}: these seals are damaged ({error}); the next commit seals the table's files anew.")
                    continue
                found |= dict(zip(rows["file"], rows["digest"], strict=True))
        except StorageError:
            # Another run has replaced them meanwhile.
            if not left or all(files.exists(uri) for uri in uris):
                raise
            continue
        return found, uris
    raise AssertionError("the last try returns or raises")


def _digests(table_uri: Uri, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    filesystem = table_uri.filesystem

    def digest(name: str) -> bytes:
        uri = table_uri / name
        state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        with explain(uri, "read"), filesystem.open_input_stream(uri.path) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                state.update(chunk)
        return state.digest()

    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        yield from zip(names, threads.map(digest, names), strict=True)


def _folder(table_uri: Uri) -> Uri:
    return table_uri / "_seals"
