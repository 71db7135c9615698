"""DuckDB set up for queries over our Arrow tables and datasets."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads

from cluster.storage.redaction import redact
from mgc.errors import ResourceError

MEMORY_LIMIT: Final = "2GB"
"""The most memory of a query over a whole table; the rest spills into the temporary folder."""

AS_WRITTEN: Final = "build_side_probe_side"
"""The optimizer to switch off so that DuckDB joins tables as written. DuckDB does not know the number of rows of a
dataset, assumes few, and would keep the larger side of a join in memory."""


def open_duckdb(*without: str, ordered: bool = True) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB that filters Arrow datasets itself and shows no progress bar on stdout.

    DuckDB may not push filters down. A filter on text fails in a Delta dataset if the statistics of a file say that a
    column has only one value, because pyarrow 25 cannot compare a `string` with DuckDB's `string_view`.

    Connections with the same settings share a database, which takes longer to make than most queries do. What is
    registered with a connection is its own. So are its tables and views if they are TEMP, as all must be.

    Args:
        without: further optimizers to switch off, by DuckDB's names.
        ordered: whether rows stay in their order where a query asks for none.
    """
    try:
        return _connect(without, ordered)
    except duckdb.FatalException:
        # A fault of DuckDB's own ends a database for good, but not the process that has it.
        _database.cache_clear()
        return _connect(without, ordered)


def _connect(without: tuple[str, ...], ordered: bool) -> duckdb.DuckDBPyConnection:
    connection = _database(without, ordered).cursor()
    connection.execute("SET enable_progress_bar = false")
    return connection


@functools.cache
def _database(without: tuple[str, ...], ordered: bool) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    _set_up(connection, without, ordered)
    return connection


def _set_up(connection: duckdb.DuckDBPyConnection, without: tuple[str, ...], ordered: bool) -> None:
    """Set what holds for a whole database."""
    connection.execute(f"SET disabled_optimizers = '{','.join(('filter_pushdown', 'join_filter_pushdown', *without))}'")
    connection.execute(f"SET preserve_insertion_order = {ordered}")


def query(sql: str, **tables: pa.Table | pads.Dataset) -> pa.Table:
    """Run a query over Arrow tables and datasets, each given under its name in the query."""
    with open_duckdb() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        answer: pa.Table = connection.sql(sql).to_arrow_table()
    return answer


@contextlib.contextmanager
def bounded_duckdb(*without: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB for queries over whole tables: its memory is bounded, the rest spills into the temporary folder.

    Args:
        without: see `open_duckdb`.

    Raises:
        ResourceError: no room is left to spill to.
    """
    with tempfile.TemporaryDirectory(prefix="mgc-duckdb-") as folder, duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        _set_up(connection, without, ordered=False)
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute("SET temp_directory = $folder", {"folder": folder})
        connection.execute("SET TimeZone = 'UTC'")
        try:
            yield connection
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            reason = redact(" ".join(str(error).split()))[:200].rstrip(".")
            raise ResourceError(
                f"the query needs more than {MEMORY_LIMIT} of memory and the free room in {tempfile.gettempdir()} "
                f"({reason}); free some space there, or point TMPDIR at a larger disk."
            ) from None
