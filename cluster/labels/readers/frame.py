"""Labels as a pandas table, for a notebook or a script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset as pads

from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from cluster.tables.parquet import reading
from mgc.errors import LabelsError

if TYPE_CHECKING:
    import pandas as pd


def read_labels(
    uri: str | Path, version: int | None = None, columns: Sequence[str] | None = None, removed: bool = False
) -> pd.DataFrame:
    """Read a labels table that `mgc label` wrote.

    Args:
        uri: folder of the table: a path, or `s3://bucket/labels` with the usual AWS variables.
        version: version to read; the newest by default. `mgc labels history` lists them.
        columns: names of the columns to read, of `mgc.schema.LABELS`; all by default.
        removed: whether to include tracks that have left the catalog.

    Returns:
        One row a track, quarantined tracks included (`status` tells), in no particular order. A label is stale where
        `stale_since` has a value. Ten million rows of all columns need some 10 GB, so name the columns of a large
        table.

    Raises:
        LabelsError: there is no such table, version or column, or the table cannot be read.
        StorageError: the URI is none, or its store refuses.
    """
    table = LabelsTable(Uri.parse(str(uri)), version)
    rows = table.dataset()
    unknown = sorted(set(columns or ()) - set(rows.schema.names))
    if unknown:
        raise LabelsError(f"{table.uri}: no column {', '.join(unknown)}; there are {', '.join(rows.schema.names)}.")
    wanted = None if removed else pads.field("removed_at").is_null()
    with reading(table.uri, "Choose another version; `mgc labels history` lists them.", LabelsError):
        found = rows.to_table(columns=None if columns is None else list(columns), filter=wanted)
    return found.to_pandas()
