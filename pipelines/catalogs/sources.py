"""Open the CATALOG-or-SOURCE of a job: a catalog as Parquet, or audio files to list now."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.dataset as pads

from cluster.session.progress import show_progress
from cluster.storage import files
from cluster.storage.listing import FileFact, list_audio
from cluster.storage.listing_s3 import list_in_parts
from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog
from cluster.tables.parquet import is_parquet
from cluster.tables.roots import stated_roots
from mgc import schema
from mgc.errors import CatalogError
from pipelines.command.job import say

_ROWS_AT_ONCE: Final = 20_000


@dataclass(frozen=True)
class Catalog:
    """An open catalog, or a source that was listed.

    Attributes:
        tracks: rows of `schema.CATALOG`: a dataset, which is not held in memory, or a table.
        notices: notices to show with every figure made from it.
        roots: places below which all its URIs lie.
    """

    tracks: pads.Dataset | pa.Table
    notices: tuple[str, ...]
    roots: tuple[Uri, ...]


def list_source(source: Uri, limit: int | None = None, may_be_empty: bool = False) -> tuple[pa.Table, Counter[str]]:
    """List the audio files of SOURCE. Returns catalog rows, and the number of ignored files by extension.

    Args:
        source: folder, file or `s3://` prefix.
        limit: number of audio files to take from the beginning.
        may_be_empty: whether to return no rows where there is no audio file.

    Raises:
        CatalogError: there is no audio file, and `may_be_empty` is false.
    """
    with tempfile.TemporaryDirectory(prefix="mgc-listing-") as folder:
        tables, ignored = stream(source, Uri.parse(folder), limit)
        found = list(tables if may_be_empty else refuse_empty(tables, ignored, source))
    return pa.concat_tables([schema.CATALOG.empty_table(), *found]), ignored


def stream(source: Uri, parts: Uri, limit: int | None = None) -> tuple[Iterator[pa.Table], Counter[str]]:
    """List the audio files of SOURCE as a stream of catalog rows in order of track id.

    Lists a whole `s3://` prefix in parallel before the first rows come. Lists a folder, or the beginning of a prefix,
    while rows are taken.

    Args:
        source: folder, file or `s3://` prefix.
        parts: folder for the parts of an `s3://` listing. The listing continues from parts that are already there.
        limit: number of audio files to take from the beginning.

    Returns:
        The rows, and the number of ignored files by extension, which is complete after the last row.
    """
    if limit is None and source.is_remote:
        with show_progress("listing", "files", None) as draw:
            listing = list_in_parts(source, parts, lambda keys: draw({"files": keys}, {}))
        if listing.expired_parts:
            say(f"{listing.expired_parts} parts of an unfinished listing are older than a day and are listed again")
        if listing.kept_since is not None:
            began = datetime.fromtimestamp(listing.kept_since).astimezone().strftime("%H:%M %Z")
            say(f"continued a listing begun at {began}: {listing.kept_keys} of {listing.keys} keys date from then")
        if listing.keys:
            return listing.tables(), listing.ignored
    ignored: Counter[str] = Counter()
    return _tables(list_audio(source, ignored), limit), ignored


def refuse_empty(tables: Iterable[pa.Table], ignored: Counter[str], source: Uri) -> Iterator[pa.Table]:
    """Yield the same rows.

    Raises:
        CatalogError: there are no rows.
    """
    anything = False
    for table in tables:
        anything = anything or table.num_rows > 0
        yield table
    if not anything:
        others = f"; {sum(ignored.values())} other files were ignored" if ignored else ""
        raise CatalogError(f"{source}: no audio file here{others}. SOURCE is a folder, a file or an s3:// prefix.")


def open_catalog(
    source_or_catalog: Uri,
    allowed: Sequence[Uri] = (),
    needed: Collection[str] = schema.CATALOG_REQUIRED,
    may_be_empty: bool = False,
) -> Catalog:
    """Open a catalog, or list SOURCE now if it is not a catalog.

    Args:
        source_or_catalog: Parquet file, folder with a `catalog.parquet`, or SOURCE as `mgc catalog` takes it.
        allowed: roots below which the URIs of a catalog must lie; by default those of its own SOURCE. A SOURCE that is
            listed now is its own root.
        needed: columns that will be read.
        may_be_empty: whether to return no rows where SOURCE has no audio file.

    Raises:
        CatalogError: the catalog is refused; see `read_catalog`.
    """
    place = source_or_catalog
    file = place if is_parquet(place) else place / "catalog.parquet"
    if file == place or files.exists(file):
        dataset = read_catalog(file, allowed, needed)
        roots = stated_roots(dataset.schema.metadata, str(file))
        return Catalog(dataset.replace_schema(schema.CATALOG), schema.notices_of(dataset.schema), roots)
    return Catalog(list_source(place, may_be_empty=may_be_empty)[0], (), (place,))


def open_tracks(source_or_catalog: Uri, allowed: Sequence[Uri] = ()) -> tuple[pa.Table, Catalog]:
    """Open a catalog as `open_catalog` does, and load all its rows, in order of track id."""
    catalog = open_catalog(source_or_catalog, allowed, schema.CATALOG.names)
    tracks = load_catalog(catalog.tracks) if isinstance(catalog.tracks, pads.Dataset) else catalog.tracks
    return tracks, catalog


def _tables(facts: Iterator[FileFact], limit: int | None) -> Iterator[pa.Table]:
    with show_progress("listing", "files", None) as draw:
        rows: list[FileFact] = []
        total = 0
        for fact in facts:
            if limit is not None and total >= limit:
                break
            rows.append(fact)
            total += 1
            if len(rows) == _ROWS_AT_ONCE:
                yield _table(rows)
                draw({"files": total}, {})
                rows = []
        if rows:
            yield _table(rows)
        draw({"files": total}, {})


def _table(rows: list[FileFact]) -> pa.Table:
    given = {name: [getattr(row, name) for row in rows] for name in schema.CATALOG_REQUIRED}
    arrays = [
        pa.array(given[field.name], field.type) if field.name in given else pa.nulls(len(rows), field.type)
        for field in schema.CATALOG
    ]
    return pa.table(arrays, schema=schema.CATALOG)
