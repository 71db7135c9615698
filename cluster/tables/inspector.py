"""Read every row of a Parquet file that anyone may have written, in a process of its own with bounded memory.

A few kilobytes of Parquet can decode to gigabytes: a dictionary stores one long string and repeats it for a million
rows, and the sizes in the footer need not be true. So this process believes nothing that the file says of itself. It
decodes the rows in batches and adds up what came out. If it needs too much memory, only this process ends, and the job
refuses the file.

`cluster.tables.inspection` starts it. It imports little, so that it starts quickly.
"""

from __future__ import annotations

import json
import pickle
import re
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from cluster.tables.roots import Roots
from mgc.units import format_bytes

TEXT_BYTES: Final = 4 * 4096
"""Longest id, URI, tag or other text of a row. No path of Linux and no key of S3 has more than 4,096 bytes. Of a path
that is not UTF-8, a byte takes up to four."""

SMALL_BYTES: Final = 64 * 2**20
"""A table may always decode to this much."""

EXPANSION: Final = 100
"""A larger table may decode to so many times the size of its files. Catalogs without hashes reach 25."""

MEMORY_BYTES: Final = 512 * 2**20
"""Memory of this process after its start, beside room for the files themselves."""

_ROWS: Final = 65_536
_FEW_ROWS: Final = 64
"""Rows of a batch, and of a batch of the second try, which finds the row that is too long for the first."""

_VALUE_BYTES: Final = 8
"""Memory of a value beside its text."""

_THREADS: Final = 2


@dataclass(frozen=True)
class Question:
    """What to find out.

    Attributes:
        where: the table, for messages.
        filesystem: filesystem of the files.
        files: path and name for messages of each file, in order.
        columns: columns to read, and the types to which they are cast. A file may lack some.
        required: columns in which nulls are counted.
        ordered: column whose order is looked at; None for none.
        roots: roots below which column `uri` must lie; None to allow any.
    """

    where: str
    filesystem: fs.FileSystem
    files: tuple[tuple[str, str], ...]
    columns: pa.Schema
    required: tuple[str, ...] = ()
    ordered: str | None = None
    roots: Roots | None = None


@dataclass
class Findings:
    """Facts about the rows.

    Attributes:
        rows: number of rows.
        in_order: whether each value of the ordered column is greater than the one before.
        nulls: number of nulls of each required column that has some.
        outside: number of rows whose URI lies outside the roots.
        first_outside: track id and URI of the first of them.
        fault: where the table is at fault, and why it is refused; None if it is not.
        unreadable: message of pyarrow on a damaged file; None if all can be read.
        system: whether that message is of the operating system or the store.
    """

    rows: int = 0
    in_order: bool = True
    nulls: dict[str, int] = field(default_factory=dict)
    outside: int = 0
    first_outside: Sequence[str] = ("", "")
    fault: str | None = None
    unreadable: str | None = None
    system: bool = False


class _FaultError(Exception):
    """The table is refused."""


class _Reader:
    """Reads the rows of all files once."""

    def __init__(self, question: Question, batch_rows: int) -> None:
        self._question = question
        self._batch_rows = batch_rows
        self._last: str | None = None
        self._bytes = 0
        self.found = Findings()

    def read(self) -> None:
        """Read all rows.

        Raises:
            _FaultError: the table is refused.
        """
        size = sum(self._question.filesystem.get_file_info(path).size for path, _ in self._question.files)
        most = max(SMALL_BYTES, EXPANSION * size)
        for path, name in self._question.files:
            row = 0
            for batch in self._batches(path):
                self._check_text(batch, name, row)
                if self._bytes > most:
                    raise _FaultError(
                        f"{self._question.where}: {format_bytes(size)} of Parquet takes more than {format_bytes(most)} "
                        "in memory; no honest table repeats itself so much"
                    )
                self._check_rows(batch)
                row += batch.num_rows
            self.found.rows += row

    def _batches(self, path: str) -> Iterator[pa.RecordBatch]:
        columns = self._question.columns
        with (
            self._question.filesystem.open_input_file(path) as stream,
            pq.ParquetFile(stream, page_checksum_verification=True) as file,
        ):
            names = [name for name in columns.names if name in file.schema_arrow.names]
            for batch in file.iter_batches(self._batch_rows, columns=names):
                arrays = [batch[name].cast(columns.field(name).type) for name in names]
                yield pa.RecordBatch.from_arrays(arrays, names=names)

    def _check_text(self, batch: pa.RecordBatch, file: str, first: int) -> None:
        """Add up the memory of a batch, and refuse text that is too long or not UTF-8."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._bytes += len(column) * _VALUE_BYTES
            text = column.flatten() if _is_list(column) else column
            self._bytes += len(text) * _VALUE_BYTES
            if pa.types.is_dictionary(text.type):
                text = text.dictionary_decode()
            if not (pa.types.is_string(text.type) or pa.types.is_large_string(text.type)):
                continue
            lengths = pc.binary_length(text)
            self._bytes += pc.sum(lengths, min_count=0).as_py()
            longest = pc.max(lengths).as_py() or 0
            if longest > TEXT_BYTES:
                at = pc.index(lengths, pc.max(lengths)).as_py()
                raise _FaultError(
                    f"{_where(file, first, column, at)}: its {name} is {longest:,} bytes long, at most {TEXT_BYTES:,} "
                    "are allowed"
                )
            try:
                text.validate(full=True)
            except pa.ArrowInvalid as error:
                index = re.search(r"index (\d+)", str(error))
                at = int(index[1]) if index else 0
                raise _FaultError(f"{_where(file, first, column, at)}: its {name} is not UTF-8 text") from None

    def _check_rows(self, batch: pa.RecordBatch) -> None:
        """Count nulls and URIs outside the roots, and look at the order."""
        found, question = self.found, self._question
        for name in question.required:
            if batch[name].null_count:
                found.nulls[name] = found.nulls.get(name, 0) + batch[name].null_count
        if question.ordered is not None and batch.num_rows and not found.nulls:
            keys = batch[question.ordered]
            rising = pc.all(pc.less(keys[:-1], keys[1:]), min_count=0).as_py()
            found.in_order = found.in_order and rising and (self._last is None or self._last < keys[0].as_py())
            self._last = keys[-1].as_py()
        if question.roots is not None and not found.nulls:
            outside = question.roots.outside(batch["uri"])
            count = pc.sum(outside, min_count=0).as_py()
            if count and not found.outside:
                at = pc.index(outside, value=True).as_py()
                found.first_outside = (batch["track_id"][at].as_py(), batch["uri"][at].as_py())
            found.outside += count


def _where(file: str, first: int, column: pa.Array, at: int) -> str:
    """Return the place of a text: its file, and its row counted from 1."""
    row = pc.list_parent_indices(column)[at].as_py() if _is_list(column) else at
    return f"{file}, row {first + row + 1:,}"


def _is_list(column: pa.Array) -> bool:
    return bool(pa.types.is_list(column.type) or pa.types.is_large_list(column.type))


def inspect(question: Question) -> Findings:
    """Read every row. A fault of the table is part of the findings.

    Raises:
        MemoryError: a few rows take more memory than there is.
    """
    for batch_rows in (_ROWS, _FEW_ROWS):
        reader = _Reader(question, batch_rows)
        try:
            reader.read()
        except MemoryError:
            if batch_rows == _FEW_ROWS:
                raise
            continue
        except _FaultError as fault:
            reader.found.fault = str(fault)
        except (pa.ArrowException, OSError) as error:
            reader.found.unreadable, reader.found.system = str(error), isinstance(error, OSError)
        return reader.found
    raise AssertionError("the second try returns or raises")


def bound_memory(file_bytes: int) -> None:
    """Let this process take `MEMORY_BYTES` more than it has, and twice the size of the files."""
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        most = held + MEMORY_BYTES + 2 * file_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answer the question on stdin. Prints JSON."""
    pa.set_cpu_count(_THREADS)
    pa.set_io_thread_count(_THREADS)
    # It comes from the job that started this process.
    question: Question = pickle.load(sys.stdin.buffer)  # noqa: S301
    bound_memory(sum(question.filesystem.get_file_info(path).size for path, _ in question.files))
    try:
        found = inspect(question)
    except MemoryError:
        fault = f"{question.where}: reading a few of its rows takes more than {format_bytes(MEMORY_BYTES)} of memory"
        found = Findings(fault=fault)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
