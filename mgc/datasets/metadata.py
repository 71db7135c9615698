"""What a corpus tells of its tracks, as one kind of table whatever the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from mgc import schema
from mgc.errors import CatalogError

FACTS: Final = (*schema.TRACK_FACTS, "duration_seconds")
"""Catalog columns that metadata may give beside `track_id`, which is the path below SOURCE."""


Column: TypeAlias = Sequence[object] | pa.Array | pa.ChunkedArray
"""What Arrow takes for a column."""


def metadata_table(columns: Mapping[str, Column], where: str, names: Sequence[str] = FACTS) -> pa.Table:
    """Metadata as a catalog wants them.

    Args:
        columns: `track_id` and any of `FACTS`, as anything that Arrow takes for a column; all of one length.
        where: the file, for messages.
        names: the facts that the table shall have; those that `columns` lacks are null.

    Returns:
        `track_id` and the facts, of the types that a catalog has, in order of `track_id`. Rows without one are left
        out.

    Raises:
        CatalogError: a column cannot be what it is in a catalog, or a track is there twice.
    """
    rows = len(columns["track_id"])
    arrays = {}
    for name in ("track_id", *names):
        field = schema.CATALOG.field(name)
        try:
            given = columns.get(name, pa.nulls(rows, field.type))
            if not isinstance(given, pa.Array | pa.ChunkedArray):
                given = pa.array(given, field.type)
            arrays[name] = given.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise CatalogError(f"{where}: column {name} has another type than a catalog's: {error}") from None
    table = pa.table(arrays)
    table = table.filter(table["track_id"].is_valid()).sort_by("track_id")
    ids = table["track_id"]
    again = pc.equal(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1))
    if pc.any(again).as_py():
        twice = ids[pc.index(again, True).as_py()].as_py()
        raise CatalogError(f"{where}: a track_id stands there twice: {twice!r}.")
    return table
