"""DuckDB as our tables need it: queries over Arrow tables and datasets."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any, Final

import duckdb
import pyarrow as pa

from cluster.storage.failures import redact
from mgc.errors import ResourceError

MEMORY_LIMIT: Final = "2GB"
"""What a query over a whole table may hold in memory; what is more goes to the temporary folder."""

AS_WRITTEN: Final = "build_side_probe_side"
"""Without this optimizer tables are joined as written. DuckDB does not know how many rows a dataset holds, takes it for
small, and would keep the larger side of a join in memory."""


def open_duckdb(*without: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB that filters Arrow datasets itself, and keeps its progress bar off our stdout.

    A filter on text handed down to a Delta dataset fails where a file's statistics say that a column has only one
    value: pyarrow 25 compares no `string` with DuckDB's `string_view`.

    Args:
        without: other optimizers to do without, by DuckDB's names.
    """
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"SET disabled_optimizers = '{','.join(('filter_pushdown', 'join_filter_pushdown', *without))}'")
    return connection


def query(sql: str, **tables: Any) -> pa.Table:
    """The answer of a DuckDB query over Arrow tables and datasets, named as in the query."""
    with open_duckdb() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        answer: pa.Table = connection.sql(sql).to_arrow_table()
    return answer


@contextlib.contextmanager
def bounded_duckdb(*without: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB for queries over whole tables: of bounded memory, spilling into the system's temporary folder.

    Args:
        without: see `open_duckdb`.

    Raises:
        ResourceError: there is no room left to spill to.
    """
    with tempfile.TemporaryDirectory(prefix="mgc-duckdb-") as folder, open_duckdb(*without) as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute("SET temp_directory = $folder", {"folder": folder})
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET TimeZone = 'UTC'")
        try:
            yield connection
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            reason = redact(" ".join(str(error).split()))[:200].rstrip(".")
            raise ResourceError(
                f"the query needs more than {MEMORY_LIMIT} of memory and the room in {tempfile.gettempdir()} "
                f"({reason}); free some space there, or point TMPDIR at a larger disk."
            ) from None
