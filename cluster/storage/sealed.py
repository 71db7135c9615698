"""Parquet files in which a flipped bit never gives a wrong value.

Every page has a checksum, which readers verify when they decode the page. These checksums do not cover the footer,
where one flipped bit in a column's name turns the whole column to null. So a seal lies between the last page and the
footer: a digest of the pages and a digest of the footer. Other programs skip these bytes.

A reader of a whole file checks both digests. A reader of parts checks the footer's digest, and each page it reads.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq


class DamageError(ValueError):
    """The bytes of a file are not those that mgc wrote. The message is a clause that says what is wrong."""


class PageOptions(TypedDict):
    """Options of pyarrow's Parquet writers."""

    compression: str
    write_page_checksum: bool


PAGES: Final[PageOptions] = {"compression": "zstd", "write_page_checksum": True}
"""How mgc writes pages."""

_MAGIC: Final = b"mgcseal1"
_DIGEST_BYTES: Final = 16
_SEAL_BYTES: Final = len(_MAGIC) + 2 * _DIGEST_BYTES
_END: Final = b"PAR1"
_TAIL_BYTES: Final = 8
"""The end of every Parquet file: the length of the footer in four bytes, and `_END`."""

_CHUNK_BYTES: Final = 8 << 20

_FIRST_READ_BYTES: Final = 1 << 16
"""Bytes to read from the end of a file at first. Most footers are shorter."""


class _Parts(NamedTuple):
    """A Parquet file in three parts. `footer` includes the tail; `seal` is empty if there is none."""

    pages: memoryview
    seal: bytes
    footer: memoryview


def encode(table: pa.Table, row_group_rows: int | None = None) -> bytes:
    """Return a table as a sealed Parquet file.

    Args:
        table: the rows.
        row_group_rows: rows in a row group; None for pyarrow's default.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=row_group_rows, **PAGES)
    data = memoryview(sink.getvalue().to_pybytes())
    start = len(data) - _footer_bytes(data)
    pages, footer = data[:start], data[start:]
    return b"".join((pages, _MAGIC, _digest(pages), _digest(footer), footer))


def seal(path: Path) -> None:
    """Seal a file that a Parquet writer has just finished with the options `PAGES`."""
    with path.open("r+b") as file:
        file.seek(-_TAIL_BYTES, os.SEEK_END)
        tail = memoryview(file.read())
        start = file.seek(-_footer_bytes(tail), os.SEEK_END)
        footer = memoryview(file.read())
        file.seek(0)
        pages = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        while rest := start - file.tell():
            pages.update(file.read(min(rest, _CHUNK_BYTES)))
        file.write(b"".join((_MAGIC, pages.digest(), _digest(footer), footer)))


def decode(data: bytes) -> pa.Table:
    """Return the rows of a sealed Parquet file.

    Raises:
        DamageError: a bit differs from what `encode` returned, or the file has no seal.
    """
    parts = _split(memoryview(data))
    if not parts.seal:
        raise DamageError("it has no seal from mgc: it is cut off, damaged, or written by another program")
    _check_footer(parts)
    if parts.seal[len(_MAGIC) : -_DIGEST_BYTES] != _digest(parts.pages):
        raise DamageError("its pages do not match their digest")
    return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)


def check_footer(filesystem: pyarrow.fs.FileSystem, path: str) -> None:
    """Check the footer of a Parquet file against its seal. A file without a seal passes: other programs write those.

    Raises:
        DamageError: the footer is not the one that mgc wrote.
        OSError: the file cannot be read.
    """
    with filesystem.open_input_file(path) as file:
        size = file.size()
        tail = memoryview(file.read_at(min(size, _FIRST_READ_BYTES), max(size - _FIRST_READ_BYTES, 0)))
        wanted = _footer_bytes(tail) + _SEAL_BYTES
        if len(tail) < wanted <= size:
            tail = memoryview(file.read_at(wanted, size - wanted))
    parts = _split(tail)
    if parts.seal:
        _check_footer(parts)
    elif _MAGIC in bytes(tail):
        raise DamageError("its footer is not as long as the one that was written")


def _check_footer(parts: _Parts) -> None:
    if parts.seal[-_DIGEST_BYTES:] != _digest(parts.footer):
        raise DamageError("its footer does not match its digest")


def _split(data: memoryview) -> _Parts:
    """Split a file, or the end of one, at its seal."""
    start = len(data) - _footer_bytes(data)
    before = start - _SEAL_BYTES
    if before < 0 or bytes(data[-len(_END) :]) != _END or bytes(data[before : before + len(_MAGIC)]) != _MAGIC:
        return _Parts(data, b"", data[:0])
    return _Parts(data[:before], bytes(data[before:start]), data[start:])


def _footer_bytes(data: memoryview) -> int:
    """Return the size of the footer with its tail, as the tail states it."""
    return int.from_bytes(data[-_TAIL_BYTES : -len(_END)], "little") + _TAIL_BYTES


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
