"""Read a curator's corrections from a small Parquet or CSV file: which track, which genre, who says so, and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as pads

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.inspection import read_chosen
from cluster.tables.parquet import is_parquet
from cluster.tables.spreadsheet import read_csv
from mgc.errors import LabelsError

OVERRIDES: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("genre", pa.string(), nullable=False),
        pa.field("by", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
    ]
)
"""One row for each corrected track: its genre, who says so, and why."""

_ALSO: Final = {"track": "track_id", "who": "by", "why": "reason"}
"""Alternative names of these columns."""

_REMEDY: Final = "A file of corrections has the columns track_id, genre, by and reason."


def read_overrides(uri: Uri, genres: Collection[str]) -> pa.Table:
    """Read a file of corrections. Returns rows of `OVERRIDES` in order of track id.

    Args:
        uri: CSV or Parquet file. Its columns may also be named track, who and why. A reason may be empty or missing.
            Other columns are ignored.
        genres: names of the model's genres.

    Raises:
        LabelsError: a row lacks a track, genre or author, names a genre that the model does not know, or repeats a
            track. The message names the row.
    """
    table = _read(uri)
    known = set(genres)
    seen: set[str] = set()
    for number, row in enumerate(table.to_pylist(), start=1):
        empty = [name for name in ("track_id", "genre", "by") if not (row[name] or "").strip()]
        if empty:
            raise LabelsError(f"{uri}: row {number} has no {empty[0]}. {_REMEDY}")
        if row["genre"] not in known:
            raise LabelsError(
                f"{uri}: row {number} gives {row['track_id']!r} the genre {row['genre']!r}; the model knows "
                f"{', '.join(sorted(known))}."
            )
        if row["track_id"] in seen:
            raise LabelsError(f"{uri}: row {number} repeats the track {row['track_id']!r}. Keep one row for it.")
        seen.add(row["track_id"])
    return table.cast(OVERRIDES).sort_by("track_id")


def _read(uri: Uri) -> pa.Table:
    types = dict.fromkeys((*OVERRIDES.names, *_ALSO), pa.string())
    text = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    try:
        if is_parquet(uri):
            table = read_chosen(uri, lambda names: set(names) & set(types), _REMEDY, LabelsError)
        else:
            table = read_csv(files.read_bytes(uri), text)
        wanted = [_ALSO.get(name, name) for name in table.column_names]
        table = table.rename_columns(
            [new if wanted.count(new) == 1 else old for new, old in zip(wanted, table.column_names, strict=True)]
        )
        missing = [field.name for field in OVERRIDES if not field.nullable and field.name not in table.column_names]
        if missing:
            raise LabelsError(f"{uri}: there is no column {', '.join(missing)}. {_REMEDY}")
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
            for field in OVERRIDES
        ]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise LabelsError(f"{uri}: cannot be read ({' '.join(str(error).split())[:200]}). {_REMEDY}") from None
    return pa.table(columns, names=OVERRIDES.names)


def with_corrections(rows: pads.Dataset | pa.Table) -> pads.Dataset | pa.Table:
    """Return the rows that have a correction. Arrow skips files whose statistics show none."""
    return rows.filter(pc.field("override_by").is_valid())


def corrections_in(rows: pads.Dataset | pa.Table) -> pa.Table:
    """Return the corrections that rows of `schema.LABELS` hold, as rows of `OVERRIDES`."""
    corrected = with_corrections(rows)
    columns = ["track_id", "genre_top", "override_by", "override_reason"]
    table = corrected.select(columns) if isinstance(corrected, pa.Table) else corrected.to_table(columns=columns)
    return table.rename_columns(OVERRIDES.names).cast(OVERRIDES)
