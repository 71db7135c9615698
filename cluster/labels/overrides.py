"""A curator's corrections: a small Parquet or CSV file of track, genre, who and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from cluster.storage import files
from cluster.storage.failures import redact
from cluster.tables.parquet import is_parquet
from mgc.errors import LabelsError

OVERRIDES: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("genre", pa.string(), nullable=False),
        pa.field("by", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
    ]
)
"""One row a corrected track: its genre, who says so, and why."""

_ALSO: Final = {"track": "track_id", "who": "by", "why": "reason"}
"""How people head these columns too."""

_REMEDY: Final = "A file of corrections has the columns track_id, genre, by and reason."


def read_overrides(uri: str, genres: Collection[str]) -> pa.Table:
    """The corrections of a file as `OVERRIDES`, in order of track id.

    Args:
        uri: of a CSV or Parquet file; its columns may also be headed track, who and why. A reason may be empty or
            missing, and no other column is looked at.
        genres: those that a track may be given.

    Raises:
        LabelsError: naming the row: no track, no genre or one that the model does not know, nobody who says so, or a
            track twice.
    """
    where = redact(uri)
    data = pa.BufferReader(pa.py_buffer(files.read_bytes(uri)))
    types = dict.fromkeys((*OVERRIDES.names, *_ALSO), pa.string())
    text = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
    try:
        table = pq.read_table(data) if is_parquet(uri) else pa.csv.read_csv(data, convert_options=text)
        wanted = [_ALSO.get(name, name) for name in table.column_names]
        table = table.rename_columns(
            [new if wanted.count(new) == 1 else old for new, old in zip(wanted, table.column_names, strict=True)]
        )
        missing = [field.name for field in OVERRIDES if not field.nullable and field.name not in table.column_names]
        if missing:
            raise LabelsError(f"{where}: there is no column {', '.join(missing)}. {_REMEDY}")
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
            for field in OVERRIDES
        ]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise LabelsError(f"{where}: cannot be read ({' '.join(str(error).split())[:200]}). {_REMEDY}") from None
    rows = pa.table(columns, names=OVERRIDES.names)
    known = set(genres)
    seen: set[str] = set()
    for number, row in enumerate(rows.to_pylist(), start=1):
        empty = [name for name in ("track_id", "genre", "by") if not (row[name] or "").strip()]
        if empty:
            raise LabelsError(f"{where}: row {number} has no {empty[0]}. {_REMEDY}")
        if row["genre"] not in known:
            raise LabelsError(
                f"{where}: row {number} gives {row['track_id']!r} the genre {row['genre']!r}; the model knows "
                f"{', '.join(sorted(known))}."
            )
        if row["track_id"] in seen:
            raise LabelsError(f"{where}: row {number}: {row['track_id']!r} stands there twice; leave one in.")
        seen.add(row["track_id"])
    return rows.cast(OVERRIDES).sort_by("track_id")
