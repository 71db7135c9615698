"""Rows as one Parquet or CSV file, streamed, complete or absent: for readers that know no Delta."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.failures import explain, redact
from cluster.storage.uri import locate
from cluster.tables.duckdb import bounded_duckdb
from cluster.tables.parquet import reading
from mgc import schema
from mgc.errors import LabelsError

PARQUET: Final = "parquet"
CSV: Final = "csv"

ROWS_AT_ONCE: Final = 100_000
"""Rows in memory together, and in one row group of a Parquet file: about 30 MB."""

_REMEDY: Final = "Choose another version; `mgc labels history` lists them."


def export(table: LabelsTable, kind: str, out: str, limit: int | None = None, overwrite: bool = False) -> int:
    """Write the rows of the tracks that the catalog has, as one file; returns how many.

    Args:
        table: of any version.
        kind: `PARQUET`, with the columns of `schema.LABELS`; or `CSV`, with `top_k` and `genres` as JSON text and times
            in UTC.
        out: URI of the file, outside of the table's folder.
        limit: rows to write at most.
        overwrite: replace what is there.

    Raises:
        LabelsError: something is there, `out` lies in the table's folder, or the table cannot be read.
        StorageError: the file cannot be written; it is absent, or as it was.
    """
    refuse_target(out, table.uri, overwrite)
    columns = ", ".join(
        f"to_json({name})::VARCHAR AS {name}" if kind == CSV and name in ("top_k", "genres") else name
        for name in schema.LABELS.names
    )
    some = "" if limit is None else f" LIMIT {limit}"
    wanted = schema.LABELS
    for name in ("top_k", "genres") if kind == CSV else ():
        wanted = wanted.set(wanted.get_field_index(name), pa.field(name, pa.string()))
    with bounded_duckdb() as connection:
        # As a stream of its own: read as a dataset, several of its files are decoded whole ahead of the writer.
        few = {"batch_size": ROWS_AT_ONCE, "batch_readahead": 1, "fragment_readahead": 1}
        with reading(table.uri, _REMEDY, LabelsError):
            connection.register("labels", table.dataset().scanner(**few).to_reader())
            relation = connection.sql(f"SELECT {columns} FROM labels WHERE removed_at IS NULL{some}")
        return write_rows(relation, wanted, kind, out, table.uri)


def write_rows(relation: duckdb.DuckDBPyRelation, columns: pa.Schema, kind: str, out: str, source_uri: str) -> int:
    """Write the rows of a query as one file; returns how many.

    Args:
        relation: the query.
        columns: of the file.
        kind: `PARQUET` or `CSV`.
        out: URI of the file.
        source_uri: what the query reads, for the message.
    """
    rows = 0
    with files.writing(out) as path, path.open("wb") as sink:
        writer = pacsv.CSVWriter if kind == CSV else partial(pq.ParquetWriter, compression="zstd")
        with writer(sink, columns) as file:
            for batch in _batches(relation, source_uri):
                cast = [batch.column(field.name).cast(field.type) for field in columns]
                file.write_batch(pa.record_batch(cast, schema=columns))
                rows += batch.num_rows
    return rows


def _batches(relation: duckdb.DuckDBPyRelation, source_uri: str) -> Iterator[pa.RecordBatch]:
    """What fails in here is about the table, and not about the file that is written."""
    with reading(source_uri, _REMEDY, LabelsError):
        yield from relation.to_arrow_reader(ROWS_AT_ONCE)


def refuse_target(out: str, table_uri: str, overwrite: bool) -> None:
    """Refuse a file that is there, a folder, or a place inside the table, which a vacuum would clean away.

    Raises:
        LabelsError: one of these.
    """
    target, folder = locate(out), locate(table_uri).uri
    shown = redact(out)
    if target.uri == folder or target.uri.startswith(folder.rstrip("/") + "/"):
        raise LabelsError(f"{shown}: this lies in the labels table's folder; name another --out.")
    with explain(out, "look up"):
        kind = target.filesystem.get_file_info(target.path).type.name
    if kind == "Directory":
        raise LabelsError(f"{shown} is a folder; --out names the file to write.")
    if kind != "NotFound" and not overwrite:
        raise LabelsError(f"{shown}: there is something already; name another --out, or add --overwrite.")
