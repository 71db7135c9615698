"""CSV files that people open in a spreadsheet, which takes a text that begins like a formula for one and runs it.

mgc writes an apostrophe before such a text, so that it stays one, and takes the apostrophe away where it reads a CSV
file. A text that has apostrophes before such a beginning gets one more. The same goes for what follows a semicolon or a
line break within a text: where the comma is the decimal mark, a spreadsheet takes these for the end of a cell. So what
mgc writes, it reads as it was, but for control characters, which a terminal would obey: they become U+FFFD.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from mgc.tags.own_tables import advise_commas

_SIGNS: Final = r"=+\-@\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}"
"""Characters with which a formula begins, also in full width."""

_WRITTEN: Final = ((rf"\A('*[{_SIGNS}\t\r\n])", r"'\1"), (rf"([;\r\n])('*[{_SIGNS}])", r"\1'\2"))
"""Patterns of what a spreadsheet may run, with the apostrophes before it, and what is written instead."""

_READ: Final = ((rf"\A'('*[{_SIGNS}\t\r\n])", r"\1"), (rf"([;\r\n])'('*[{_SIGNS}])", r"\1\2"))

_CONTROL: Final = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}]"


class CsvWriter(pacsv.CSVWriter):
    """Arrow's writer, with texts that are no formulas.

    Args:
        sink: file to write to.
        schema: columns.
        raw: whether to write texts as they are. No spreadsheet should open such a file.
    """

    def __init__(self, sink: BinaryIO | pa.NativeFile, schema: pa.Schema, raw: bool = False) -> None:
        super().__init__(sink, schema)
        self._raw = raw

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Write rows."""
        super().write_batch(batch if self._raw else _change_texts(batch, _neutralise))

    def write_table(self, table: pa.Table) -> None:
        """Write rows. Arrow's own would not call `write_batch`."""
        for batch in table.to_batches():
            self.write_batch(batch)


def _neutralise(texts: pa.Array) -> pa.Array:
    for pattern, instead in ((_CONTROL, "\N{REPLACEMENT CHARACTER}"), *_WRITTEN):
        texts = pc.replace_substring_regex(texts, pattern, instead)
    return texts


def _restore(texts: pa.Array) -> pa.Array:
    for pattern, instead in _READ:
        texts = pc.replace_substring_regex(texts, pattern, instead)
    return texts


def write_csv(rows: pa.Table) -> bytes:
    """Return rows as a CSV file."""
    sink = pa.BufferOutputStream()
    with CsvWriter(sink, rows.schema) as writer:
        writer.write_table(rows)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_csv(data: bytes, options: pacsv.ConvertOptions) -> pa.Table:
    """Read a CSV file that mgc or a person wrote.

    Args:
        data: the file.
        options: types of its columns.

    Raises:
        pa.ArrowInvalid: it is no CSV, is not UTF-8, its values are separated by something else than commas, or two of
            its columns have the same name. Columns without a name are left out.
    """
    try:
        header = data.decode("utf-8-sig").lstrip().partition("\n")[0]
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise pa.ArrowInvalid(f"line {line}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    advice = advise_commas(header.split(","))
    if advice is not None:
        raise pa.ArrowInvalid(advice)
    # An id is a path, which may have a line break.
    lines = pacsv.ParseOptions(newlines_in_values=True)
    table = pacsv.read_csv(pa.BufferReader(pa.py_buffer(data)), parse_options=lines, convert_options=options)
    names = collections.Counter(table.column_names)
    twice = [name for name in names if name and names[name] > 1]
    if twice:
        raise pa.ArrowInvalid(f"{names[twice[0]]} columns are called {twice[0]!r}; keep one")
    table = table.select([place for place, name in enumerate(table.column_names) if name])
    return pa.Table.from_batches([_change_texts(batch, _restore) for batch in table.to_batches()], table.schema)


def _change_texts(batch: pa.RecordBatch, change: Callable[[pa.Array], pa.Array]) -> pa.RecordBatch:
    columns = [change(column) if _is_text(column) else column for column in batch.columns]
    return pa.record_batch(columns, schema=batch.schema)


def _is_text(column: pa.Array) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))
