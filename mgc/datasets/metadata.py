"""Metadata of a corpus's tracks, in the same kind of table for every corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from mgc import schema
from mgc.errors import CatalogError

FACTS: Final = (*schema.TRACK_FACTS, "duration_seconds")
"""Catalog columns that metadata may give besides `track_id`, which is the path below SOURCE."""


NO_GENRE: Final = frozenset(
    {"-", "--", "?", "#n/a", "<na>", "n.a.", "n/a", "na", "nan", "nil", "none", "null", "unknown"}
)
"""Texts, in lower case, with which tables say that a track has no genre."""

_TEXTS: Final = ("genre_top", "artist_id", "album_id", "split", "subset")


Column: TypeAlias = Sequence[object] | pa.Array | pa.ChunkedArray
"""Any value that Arrow accepts as a column."""


def metadata_table(columns: Mapping[str, Column], where: str, names: Sequence[str] = FACTS) -> pa.Table:
    """Return metadata in the form that a catalog needs.

    Args:
        columns: `track_id` and any of `FACTS`, in any form that Arrow accepts; all of the same length.
        where: the file, for messages.
        names: facts in the table; those that `columns` lacks are null.

    Returns:
        `track_id` and the facts, with the types of a catalog, in order of `track_id`. Rows without a `track_id` are
        left out. Texts are in Unicode's composed form, so that a name is written in one way; blanks around them are cut
        off. A text of blanks is null, and so is a genre of `NO_GENRE`.

    Raises:
        CatalogError: a column cannot be converted to its type in a catalog, or a track occurs twice.
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
            raise CatalogError(
                f"{where}: column {name} cannot be read as {field.type}: {error}. Correct the file."
            ) from None
    table = pa.table(arrays)
    for name in set(_TEXTS).intersection(names):
        table = table.set_column(table.column_names.index(name), name, _plain(table[name], name == "genre_top"))
    if "genres" in names:
        table = table.set_column(table.column_names.index("genres"), "genres", _genres(table["genres"]))
    blank = pc.equal(pc.utf8_trim_whitespace(table["track_id"]), "")
    table = table.filter(pc.invert(pc.fill_null(blank, True))).sort_by("track_id")
    ids = table["track_id"]
    again = pc.equal(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1))
    if pc.any(again).as_py():
        twice = ids[pc.index(again, True).as_py()].as_py()
        raise CatalogError(f"{where}: a track_id appears twice: {twice!r}. Keep one of its rows.")
    return table


def _plain(texts: pa.ChunkedArray, genres: bool) -> pa.ChunkedArray:
    """Return texts composed (NFC) and without the blanks around them; null for those that say nothing."""
    texts = pc.utf8_trim_whitespace(pc.utf8_normalize(texts, "NFC"))
    empty = pc.equal(texts, "")
    if genres:
        empty = pc.or_(empty, pc.is_in(pc.utf8_lower(texts), pa.array(sorted(NO_GENRE))))
    return pc.if_else(empty, None, texts)


def _genres(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return lists of genres without the entries that say nothing; null for a list that has no other."""
    given = pc.list_flatten(lists)
    kept = _plain(given, True)
    if kept.equals(given):
        return lists
    words = iter(kept.to_pylist())
    plain = [None if each is None else [word for _ in each if (word := next(words))] for each in lists.to_pylist()]
    return pa.chunked_array([pa.array([each or None for each in plain], lists.type)])
