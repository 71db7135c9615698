"""Small tables as Parquet files, and what is said of bad ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage import files
from cluster.storage.uri import Uri
from mgc import schema
from mgc.errors import CatalogError, MgcError

REQUIRED = {
    "track_id": pa.array(["b", "a"]),
    "uri": pa.array(["s3://m/b.mp3", "s3://m/a.mp3"]),
    "size_bytes": pa.array([2, 1], pa.int64()),
    "content_tag": pa.array(["2", "1"]),
}


FULL = pa.Table.from_pylist(pa.table(REQUIRED).to_pylist(), schema=schema.CATALOG)


def put(uri: str, table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    files.write_bytes(Uri.parse(uri), sink.getvalue().to_pybytes())
    return uri


def refusal(action: Callable[..., object], *args: Any, error: type[MgcError] = CatalogError) -> str:
    """The one line of an error."""
    with pytest.raises(error) as caught:
        action(*args)
    line = str(caught.value)
    assert "\n" not in line
    assert "  " not in line
    assert line == line.strip()
    assert len(line) < 700
    return line
