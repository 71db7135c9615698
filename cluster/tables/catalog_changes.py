"""Read two sorted tables side by side, piece by piece: a listing and an earlier one, or a listing and its metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.storage import files
from cluster.storage.listing.facts import Survey, Unseen
from cluster.storage.uri import Uri
from cluster.tables.inspection import inspect_table, question_of
from cluster.tables.parquet import ROW_GROUP, reading
from cluster.tables.roots import SOURCE_KEY
from mgc import schema
from mgc.errors import CatalogError


class Beside:
    """Hands out tables in order of `track_id`, without repeated ids, piece by piece.

    Args:
        tables: tables with a column `track_id` and others.

    Raises:
        CatalogError: rows are found out of order as they are taken.
    """

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._rest: pa.Table | None = next(tables, None)
        self._last = ""

    def up_to(self, track_id: str | None) -> pa.Table | None:
        """Take the rows up to and with `track_id`, or for None the whole next table. Returns None at the end."""
        taken = []
        while self._rest is not None:
            ids = self._rest["track_id"]
            count = len(ids) if track_id is None else pc.sum(pc.less_equal(ids, track_id)).as_py() or 0
            taken.append(self._rest.slice(0, count))
            if count < len(ids):
                self._rest = self._rest.slice(count)
                break
            self._rest = next(self._tables, None)
            if track_id is None:
                break
        if not taken:
            return None
        piece = pa.concat_tables(taken).combine_chunks()
        self._check(piece["track_id"])
        return piece

    def _check(self, ids: pa.ChunkedArray) -> None:
        if len(ids):
            rising = pc.all(pc.less(ids.slice(0, len(ids) - 1), ids.slice(1)), min_count=0).as_py()
            if not rising or (self._last and not self._last < ids[0].as_py()):
                raise CatalogError(f"near {ids[0].as_py()!r}: not in order of track_id; write it again.")
            self._last = ids[-1].as_py()


class Changes:
    """Counts the tracks that are new, changed, gone and the same since an earlier listing.

    Attributes:
        counts: `new`, `changed`, `gone`, `same`; and `unseen`, if tracks lie in folders that could not be read.

    Args:
        earlier: tables of the earlier listing, in order of track id.
        survey: what the new listing has seen besides its tracks, as far as it has come.
    """

    def __init__(self, earlier: Iterator[pa.Table], survey: Survey | None = None) -> None:
        self.counts = Counter(new=0, changed=0, gone=0, same=0)
        self._earlier = Beside(earlier)
        self._survey = survey or Survey()

    def add(self, tracks: pa.Table) -> None:
        """Count the next rows of the new listing, which come in order of track id."""
        if not tracks.num_rows:
            return
        old = self._earlier.up_to(tracks["track_id"][-1].as_py())
        if old is None:
            self.counts["new"] += tracks.num_rows
            return
        place = pc.index_in(tracks["track_id"], value_set=old["track_id"])
        found = len(place) - place.null_count
        same = pc.sum(pc.equal(tracks["content_tag"], old["content_tag"].take(place))).as_py() or 0
        self.counts.update(new=len(place) - found, changed=found - same, same=same)
        if old.num_rows > found:
            ids = old["track_id"]
            self._miss(ids.filter(pc.invert(pc.is_in(ids, value_set=tracks["track_id"].combine_chunks()))))

    def end(self) -> None:
        """End the new listing. Count the rest of the earlier one as gone."""
        while (old := self._earlier.up_to(None)) is not None:
            self._miss(old["track_id"])

    def _miss(self, ids: pa.ChunkedArray) -> None:
        """Count tracks that the new listing lacks."""
        unseen = Unseen(self._survey.unreadable)
        count = sum(unseen.of(ids.to_pylist())) if unseen else 0
        self.counts["gone"] += len(ids) - count
        if count:
            self.counts["unseen"] += count


def earlier_listing(catalog: Uri, source: Uri, survey: Survey | None = None) -> Changes | None:
    """Open a catalog to compare a new listing with. Returns None if it is not a complete listing of the same source.

    Args:
        catalog: a Parquet file, which may be missing.
        source: the source that is listed now.
        survey: see `Changes`.

    Raises:
        CatalogError: at once or while it is read: it is not Parquet, or not in order.
        StorageError: it cannot be read.
    """
    columns = pa.schema([schema.CATALOG.field(name) for name in ("track_id", "content_tag")])
    tables = _earlier(catalog, source, columns)
    return None if tables is None else Changes(tables, survey)


TAGGED: Final = pa.schema(
    [
        *(schema.CATALOG.field(name) for name in ("track_id", "content_tag", "artist_id", "album_id")),
        *schema.CATALOG_TAGS,
    ]
)
"""Columns of a catalog that the tags of its files gave, with those that tell whether a file is the same."""


def earlier_tags(catalog: Uri, source: Uri) -> Beside | None:
    """Open a catalog to take from it the tags of files that are the same. Hands out the columns of `TAGGED`.

    Returns None if it is not a complete listing of the same source, or no tags were read for it. See `earlier_listing`
    for arguments and errors.
    """
    tables = _earlier(catalog, source, TAGGED)
    return None if tables is None else Beside(tables)


def _earlier(catalog: Uri, source: Uri, columns: pa.Schema) -> Iterator[pa.Table] | None:
    """Return columns of a catalog in pieces; None if it is no listing of the source, or lacks one."""
    if not files.exists(catalog):
        return None
    path, filesystem = catalog.path, catalog.filesystem
    with reading(catalog, "", CatalogError):
        found = pq.read_schema(path, filesystem=filesystem)
    if (found.metadata or {}).get(SOURCE_KEY) != source.text.encode():
        return None
    if any(found.names.count(each.name) != 1 or _values(found.field(each.name).type) != each.type for each in columns):
        return None
    inspect_table(catalog, question_of(catalog, columns), "", CatalogError)

    def tables() -> Iterator[pa.Table]:
        with reading(catalog, "", CatalogError), filesystem.open_input_file(path) as file:
            for batch in pq.ParquetFile(file).iter_batches(ROW_GROUP, columns=columns.names):
                yield pa.table({each.name: batch[each.name].cast(each.type) for each in columns})

    return tables()


def _values(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, which a file may hold once each, as a dictionary."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind
