"""Rows of a labels table as one Parquet or CSV file, for readers without Delta. The file is complete or absent."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.failures import explain
from cluster.storage.uri import Uri
from cluster.tables.duckdb import bounded_duckdb
from cluster.tables.parquet import reading
from cluster.tables.spreadsheet import CsvWriter
from mgc import schema
from mgc.errors import LabelsError

FileKind = Literal["parquet", "csv"]

ROWS_AT_ONCE: Final = 100_000
"""Rows in memory at a time, and in one row group of a Parquet file: about 30 MB."""

_AS_JSON: Final = ("top_k", "genres")
"""Columns that a CSV file holds as JSON text."""

_REMEDY: Final = "Choose another version; `mgc labels history` lists them."


def export(table: LabelsTable, kind: FileKind, out: Uri, limit: int | None = None, overwrite: bool = False) -> int:
    """Write the rows of all tracks that are still in the catalog as one file. Returns the number of rows.

    Args:
        table: labels table, of any version.
        kind: "parquet" for the columns of `schema.LABELS`; "csv" for the same with `top_k` and `genres` as JSON text
            and times in UTC, and no text that a spreadsheet would run as a formula.
        out: file to write, outside of the table's folder.
        limit: largest number of rows to write.
        overwrite: whether to replace an existing file.

    Raises:
        LabelsError: the file exists, `out` is in the table's folder, or the table cannot be read or is
            damaged.
        StorageError: the file cannot be written. It is absent, or unchanged.
    """
    refuse_target(out, table.uri, overwrite)
    table.check_files()
    as_json = _AS_JSON if kind == "csv" else ()
    columns = ", ".join(
        f"to_json({name})::VARCHAR AS {name}" if name in as_json else name for name in schema.LABELS.names
    )
    some = "" if limit is None else f" LIMIT {limit}"
    wanted = schema.LABELS
    for name in as_json:
        wanted = wanted.set(wanted.get_field_index(name), pa.field(name, pa.string()))
    with bounded_duckdb() as connection:
        # Read a single stream. A plain dataset scan would decode several whole files ahead of the writer.
        few = {"batch_size": ROWS_AT_ONCE, "batch_readahead": 1, "fragment_readahead": 1}
        with reading(table.uri, _REMEDY, LabelsError):
            connection.register("labels", table.dataset().scanner(**few).to_reader())
            relation = connection.sql(f"SELECT {columns} FROM labels WHERE removed_at IS NULL{some}")
        return write_rows(relation, wanted, kind, out, table.uri)


def write_rows(relation: duckdb.DuckDBPyRelation, columns: pa.Schema, kind: FileKind, out: Uri, source: Uri) -> int:
    """Write the rows of a query as one file. Returns the number of rows.

    Args:
        relation: the query.
        columns: schema of the file.
        kind: format of the file.
        out: file to write.
        source: table that the query reads, for messages.
    """
    rows = 0
    with files.writing(out) as path, path.open("wb") as sink:
        writer = CsvWriter if kind == "csv" else partial(pq.ParquetWriter, compression="zstd")
        with writer(sink, columns) as file:
            for batch in _batches(relation, source):
                cast = [batch.column(field.name).cast(field.type) for field in columns]
                file.write_batch(pa.record_batch(cast, schema=columns))
                rows += batch.num_rows
    return rows


def _batches(relation: duckdb.DuckDBPyRelation, source: Uri) -> Iterator[pa.RecordBatch]:
    """Read the query. Errors raised here concern the table, not the file being written."""
    with reading(source, _REMEDY, LabelsError):
        yield from relation.to_arrow_reader(ROWS_AT_ONCE)


def refuse_target(out: Uri, table_uri: Uri, overwrite: bool) -> None:
    """Refuse to write over an existing file or folder, or inside the table, where a vacuum would delete the file.

    Raises:
        LabelsError: the target is one of those.
    """
    if out.text == table_uri.text or out.text.startswith(table_uri.text.rstrip("/") + "/"):
        raise LabelsError(f"{out}: this lies in the labels table's folder; name another --out.")
    with explain(out, "look up"):
        kind = out.filesystem.get_file_info(out.path).type.name
    if kind == "Directory":
        raise LabelsError(f"{out} is a folder; --out names the file to write.")
    if kind != "NotFound" and not overwrite:
        raise LabelsError(f"{out} exists already; name another --out, or add --overwrite.")
