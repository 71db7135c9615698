"""Write and read catalogs as Parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.duckdb import bounded_duckdb
from cluster.tables.parquet import ROW_GROUP, is_parquet, open_parquet, reading
from mgc import schema
from mgc.errors import CatalogError

_WRITE_CATALOG: Final = "Write a catalog with `mgc catalog SOURCE --out CATALOG`."

SOURCE_KEY: Final = b"mgc_source"
"""Key of the entry of a catalog's metadata that names the listed source. With it, the rows are in order of track id."""


def write_catalog(
    uri: Uri | str, tables: Iterable[pa.Table], notices: Sequence[str] = (), source: Uri | str | None = None
) -> int:
    """Write a catalog as one Parquet file, a row group at a time, and return the number of rows.

    A reader finds the old file or the new one, and a writer that fails leaves nothing behind: see `files.writing`.

    Args:
        uri: a file ending in .parquet, or a folder that will hold `catalog.parquet`.
        tables: rows with the schema `schema.CATALOG`.
        notices: sentences to show with every figure made from this catalog.
        source: the listed source, for `cluster.tables.catalog_changes`; the rows must then be in order of track id.
    """
    uri = Uri.parse(uri)
    target = uri if is_parquet(uri) else uri / "catalog.parquet"
    columns = schema.with_notices(schema.CATALOG, notices)
    if source is not None:
        columns = columns.with_metadata({**columns.metadata, SOURCE_KEY: Uri.parse(source).text.encode()})
    rows = 0
    with files.writing(target) as path, pq.ParquetWriter(path, columns, compression="zstd") as writer:
        for table in _regrouped(tables):
            writer.write_table(table.cast(columns), row_group_size=ROW_GROUP)
            rows += table.num_rows
    return rows


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows, at least `ROW_GROUP` at a time."""
    gathered: list[pa.Table] = []
    for table in tables:
        gathered.append(table)
        if sum(each.num_rows for each in gathered) >= ROW_GROUP:
            yield pa.concat_tables(gathered)
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered)


def read_catalog(uri: Uri | str) -> pads.Dataset:
    """Open a catalog and check it.

    The dataset has exactly the columns of `schema.CATALOG` (null where the file has none), and the notices.

    The check reads a required column only if the metadata of the file do not rule out nulls. It always reads the track
    ids. If they are in order, as `mgc catalog` writes them, one pass with little memory is enough.

    Raises:
        CatalogError: the catalog is missing or not Parquet, a required column is missing or null, a track id is in
            several rows, or there is no track. (A labels table that follows an empty catalog would mark every track as
            removed.)
    """
    notices: dict[str, None] = {}
    doubtful: dict[str, None] = {}

    def check(found: pa.Schema, where: str) -> None:
        schema.check_catalog(found, where)
        notices.update(dict.fromkeys(schema.notices_of(found)))
        for name in schema.CATALOG_REQUIRED:
            if found.field(name).nullable or found.field(name).type != schema.CATALOG.field(name).type:
                doubtful[name] = None

    uri = Uri.parse(uri)
    where = str(uri)
    dataset = open_parquet(uri, _WRITE_CATALOG, CatalogError, schema.CATALOG, check)
    dataset = dataset.replace_schema(schema.with_notices(schema.CATALOG, [*notices]))
    with reading(uri, _WRITE_CATALOG, CatalogError):
        if not dataset.count_rows():
            raise CatalogError(f"{where}: this catalog holds no track. {_WRITE_CATALOG}")
        nulls: Counter[str] = Counter()
        for name in doubtful:
            for batch in dataset.to_batches(columns=[name], batch_size=ROW_GROUP):
                nulls[name] += batch.column(0).null_count
        for name, count in nulls.items():
            if count:
                raise CatalogError(f"{where}: {count} rows have no {name}; every row of a catalog needs one.")
        repeated = [] if _in_order(dataset) else _repeated(dataset)
    for track_id, count in repeated:
        raise CatalogError(
            f"{where}: track_id {track_id!r} stands in {count} rows; a track has exactly one: leave one in."
        )
    return dataset


def _in_order(dataset: pads.Dataset) -> bool:
    """Return whether each track id is greater than the one before."""
    last = None
    for batch in dataset.to_batches(columns=["track_id"], batch_size=ROW_GROUP):
        ids = batch.column(0)
        if not len(ids):
            continue
        if last is not None and not last < ids[0].as_py():
            return False
        if not pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
            return False
        last = ids[-1].as_py()
    return True


def _repeated(dataset: pads.Dataset) -> list[tuple[str, int]]:
    """Return the first track id that is in several rows, with their number."""
    with bounded_duckdb() as connection:
        connection.register("catalog", dataset)
        found: list[tuple[str, int]] = connection.sql(
            "SELECT track_id, count(*) AS n FROM catalog GROUP BY track_id HAVING n > 1 ORDER BY track_id LIMIT 1"
        ).fetchall()
    return found


def load_catalog(dataset: pads.Dataset, limit: int | None = None) -> pa.Table:
    """Load the rows of a checked catalog as `schema.CATALOG`, in order of track id."""
    with reading("the catalog", _WRITE_CATALOG, CatalogError):
        table = dataset.replace_schema(schema.CATALOG).to_table()
        ids = table["track_id"]
        if not pc.all(pc.less(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1)), min_count=0).as_py():
            table = table.take(pc.sort_indices(ids))
    return table if limit is None else table.slice(0, limit)
