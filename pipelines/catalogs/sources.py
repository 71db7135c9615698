"""What a job is given as CATALOG-or-SOURCE: a catalog as Parquet, or audio files that are listed now."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.dataset as pads

from cluster.session.progress import show_progress
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.listing import FileFact, list_audio
from cluster.storage.listing_s3 import list_in_parts
from cluster.storage.uri import is_remote, join
from cluster.tables.catalog import load_catalog, read_catalog
from cluster.tables.parquet import is_parquet
from mgc import schema
from mgc.errors import CatalogError
from pipelines.command.job import say

_ROWS_AT_ONCE: Final = 20_000


def listed(source: str, limit: int | None = None) -> tuple[pa.Table, Counter[str]]:
    """The audio files of SOURCE as catalog rows, and how many other files were passed over, by extension.

    Raises:
        CatalogError: there is no audio file.
    """
    with tempfile.TemporaryDirectory(prefix="mgc-listing-") as folder:
        tables, ignored = stream(source, folder, limit)
        found = list(not_empty(tables, ignored, source))
    return pa.concat_tables(found), ignored


def stream(source: str, parts_uri: str, limit: int | None = None) -> tuple[Iterator[pa.Table], Counter[str]]:
    """The audio files of SOURCE as catalog rows in order of track id, and what is passed over.

    A whole `s3://` prefix is listed side by side before the first rows come, a folder or a beginning on the way.

    Args:
        source: as for `list_audio`.
        parts_uri: of the folder for the parts of a listing of `s3://`, which goes on with those that lie there.
        limit: of audio files, from the beginning.

    Returns:
        The rows, and counts by extension that are complete when the rows are.
    """
    if limit is None and is_remote(source):
        with show_progress("listing", "files", None) as draw:
            listing = list_in_parts(source, parts_uri, lambda keys: draw({"files": keys}, {}))
        if listing.expired_parts:
            say(f"{listing.expired_parts} parts of a listing that did not end are older than a day: listed again")
        if listing.kept_since is not None:
            began = datetime.fromtimestamp(listing.kept_since).astimezone().strftime("%H:%M %Z")
            say(
                f"went on with a listing begun at {began}: {listing.kept_keys} of {listing.keys} keys are as they were "
                "then"
            )
        if listing.keys:
            return listing.tables(), listing.ignored
    ignored: Counter[str] = Counter()
    return _tables(list_audio(source, ignored), limit), ignored


def not_empty(tables: Iterable[pa.Table], ignored: Counter[str], source: str) -> Iterator[pa.Table]:
    """The same rows.

    Raises:
        CatalogError: there are none.
    """
    anything = False
    for table in tables:
        anything = anything or table.num_rows > 0
        yield table
    if not anything:
        passed = f"; {sum(ignored.values())} other files were passed over" if ignored else ""
        raise CatalogError(
            f"{redact(source)}: no audio file here{passed}. SOURCE is a folder, a file or an s3:// prefix."
        )


def open_catalog(source_or_catalog: str) -> tuple[pads.Dataset | pa.Table, tuple[str, ...]]:
    """A catalog, which is not held in memory, with its notices; or, where there is none, SOURCE listed now.

    Args:
        source_or_catalog: a Parquet file, a folder with `catalog.parquet` in it, or what `catalog` takes as SOURCE.
    """
    inside = join(source_or_catalog, "catalog.parquet")
    if is_parquet(source_or_catalog) or files.exists(inside):
        dataset = read_catalog(source_or_catalog if is_parquet(source_or_catalog) else inside)
        return dataset.replace_schema(schema.CATALOG), schema.notices_of(dataset.schema)
    return listed(source_or_catalog)[0], ()


def open_tracks(source_or_catalog: str) -> tuple[pa.Table, tuple[str, ...]]:
    """The same, all rows in memory, in order of track id."""
    tracks, notices = open_catalog(source_or_catalog)
    return (load_catalog(tracks) if isinstance(tracks, pads.Dataset) else tracks), notices


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
