"""CSV files that people open in a spreadsheet, which takes a text that begins like a formula for one and runs it.

mgc writes an apostrophe before such a text, so that it stays one, and takes the apostrophe away where it reads a CSV
file. A text that has apostrophes before such a beginning gets one more. So what mgc writes, it reads as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from mgc.tags.own_tables import advise_commas

_FORMULA: Final = r"('*[=+\-@\t\r\n\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}])"
"""How a text begins that a spreadsheet may run, also in full-width characters, with the apostrophes before it."""


class CsvWriter(pacsv.CSVWriter):
    """Arrow's writer, with texts that are no formulas."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Write rows."""
        super().write_batch(
            _change_texts(batch, lambda texts: pc.replace_substring_regex(texts, rf"\A{_FORMULA}", r"'\1"))
        )


def write_csv(rows: pa.Table) -> bytes:
    """Return rows as a CSV file."""
    sink = pa.BufferOutputStream()
    with CsvWriter(sink, rows.schema) as writer:
        for batch in rows.to_batches():
            writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_csv(data: bytes, options: pacsv.ConvertOptions) -> pa.Table:
    """Read a CSV file that mgc or a person wrote.

    Args:
        data: the file.
        options: types of its columns.

    Raises:
        pa.ArrowInvalid: it is no CSV, is not UTF-8, or its values are separated by something else than commas.
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
    return pa.Table.from_batches(
        [
            _change_texts(batch, lambda texts: pc.replace_substring_regex(texts, rf"\A'{_FORMULA}", r"\1"))
            for batch in table.to_batches()
        ],
        table.schema,
    )


def _change_texts(batch: pa.RecordBatch, change: Callable[[pa.Array], pa.Array]) -> pa.RecordBatch:
    columns = [change(column) if pa.types.is_string(column.type) else column for column in batch.columns]
    return pa.record_batch(columns, schema=batch.schema)
