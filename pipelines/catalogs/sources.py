"""Open the CATALOG-or-SOURCE of a job: a catalog as Parquet, or audio files to list now."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import click
import pyarrow as pa
import pyarrow.dataset as pads

from cluster.session.progress import show_progress
from cluster.storage import files
from cluster.storage.listing import list_audio
from cluster.storage.listing.facts import FileFact, Survey
from cluster.storage.listing.parallel import list_in_parts
from cluster.storage.selection import ALL, Selection
from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog, stated_survey
from cluster.tables.parquet import is_parquet
from cluster.tables.roots import stated_roots
from mgc import schema
from mgc.errors import CatalogError
from mgc.units import format_count
from pipelines.catalogs.surveys import describe_nothing, describe_survey, is_one_other_file
from pipelines.command.job import say

_ROWS_AT_ONCE: Final = 20_000


@dataclass(frozen=True)
class Catalog:
    """An open catalog, or a source that was listed.

    Attributes:
        tracks: rows of `schema.CATALOG`: a dataset, which is not held in memory, or a table.
        notices: notices to show with every figure made from it.
        roots: places below which all its URIs lie.
        survey: what the listing saw besides the tracks; None for a catalog that does not say.
    """

    tracks: pads.Dataset | pa.Table
    notices: tuple[str, ...]
    roots: tuple[Uri, ...]
    survey: Survey | None = None


def list_source(
    source: Uri, limit: int | None = None, may_be_empty: bool = False, selection: Selection = ALL
) -> tuple[pa.Table, Survey]:
    """List the audio files of SOURCE. Returns catalog rows, and what was seen besides.

    Args:
        source: folder, file or `s3://` prefix.
        limit: number of audio files to take from the beginning.
        may_be_empty: whether to return no rows where there is no audio file. A SOURCE that is one other file is
            refused all the same.
        selection: which of the files are wanted.

    Raises:
        CatalogError: there is no audio file, and `may_be_empty` is false.
    """
    with tempfile.TemporaryDirectory(prefix="mgc-listing-") as folder:
        tables, survey = stream(source, Uri.parse(folder), limit, selection)
        found = list(tables)
    if not found and (not may_be_empty or is_one_other_file(source, survey)):
        raise CatalogError(describe_nothing(source, survey))
    return pa.concat_tables([schema.CATALOG.empty_table(), *found]), survey


def stream(
    source: Uri, parts: Uri, limit: int | None = None, selection: Selection = ALL
) -> tuple[Iterator[pa.Table], Survey]:
    """List the audio files of SOURCE as a stream of catalog rows in order of track id.

    Lists a whole `s3://` prefix in parallel before the first rows come. Lists a folder, or the beginning of a prefix,
    while rows are taken.

    Args:
        source: folder, file or `s3://` prefix.
        parts: folder for the parts of an `s3://` listing. The listing continues from parts that are already there.
        limit: number of audio files to take from the beginning.
        selection: which of the files are wanted. The parts must be of the same selection.

    Returns:
        The rows, and what was seen besides, which is complete after the last row.
    """
    if limit is None and source.is_remote:
        with show_progress("listing", "files", None) as draw:
            listing = list_in_parts(source, parts, lambda seen: draw({"files": seen}, {}), selection)
        if listing.expired_parts:
            say(
                "listed again, since an unfinished listing is older than a day: "
                f"{format_count(listing.expired_parts, 'part')}"
            )
        if listing.kept_since is not None:
            began = datetime.fromtimestamp(listing.kept_since).astimezone().strftime("%H:%M %Z")
            say(
                f"continued a listing begun at {began}: {listing.kept_tracks:,} of "
                f"{format_count(listing.tracks, 'track')} from then"
            )
        if listing.keys:
            return listing.tables(), listing.survey
    survey = Survey()
    return _tables(list_audio(source, survey, selection), limit, survey), survey


def refuse_empty(tables: Iterable[pa.Table], survey: Survey, source: Uri) -> Iterator[pa.Table]:
    """Yield the same rows.

    Raises:
        CatalogError: there are no rows.
    """
    anything = False
    for table in tables:
        anything = anything or table.num_rows > 0
        yield table
    if not anything:
        raise CatalogError(describe_nothing(source, survey))


def open_catalog(
    source_or_catalog: Uri,
    allowed: Sequence[Uri] = (),
    needed: Collection[str] = schema.CATALOG_REQUIRED,
    may_be_empty: bool = False,
    selection: Selection = ALL,
) -> Catalog:
    """Open a catalog, or list SOURCE now if it is not a catalog.

    Args:
        source_or_catalog: Parquet file, folder with a `catalog.parquet`, or SOURCE as `mgc catalog` takes it.
        allowed: roots below which the URIs of a catalog must lie; by default those of its own SOURCE. A SOURCE that is
            listed now is its own root.
        needed: columns that will be read.
        may_be_empty: whether to return no rows where SOURCE has no audio file.
        selection: which files of SOURCE are wanted.

    Raises:
        CatalogError: the catalog is refused; see `read_catalog`.
        UsageError: there is a selection for a catalog, which has been made already.
    """
    place = source_or_catalog
    file = place if is_parquet(place) else place / "catalog.parquet"
    if file == place or files.exists(file, asked=place):
        if selection:
            raise click.UsageError(
                f"{place} is a catalog. --include and --exclude choose files of a SOURCE that is listed now; give them "
                "to `mgc catalog`, and write the catalog again."
            )
        dataset = read_catalog(file, allowed, needed)
        roots = stated_roots(dataset.schema.metadata, str(file))
        notices, survey = schema.notices_of(dataset.schema), stated_survey(dataset)
        return Catalog(dataset.replace_schema(schema.CATALOG), notices, roots, survey)
    tracks, survey = list_source(place, may_be_empty=may_be_empty, selection=selection)
    for line in describe_survey(survey):
        say(line)
    return Catalog(tracks, (), (place,), survey)


def open_tracks(
    source_or_catalog: Uri, allowed: Sequence[Uri] = (), selection: Selection = ALL
) -> tuple[pa.Table, Catalog]:
    """Open a catalog as `open_catalog` does, and load all its rows, in order of track id."""
    catalog = open_catalog(source_or_catalog, allowed, schema.CATALOG.names, selection=selection)
    tracks = load_catalog(catalog.tracks) if isinstance(catalog.tracks, pads.Dataset) else catalog.tracks
    return tracks, catalog


def _tables(facts: Iterator[FileFact], limit: int | None, survey: Survey) -> Iterator[pa.Table]:
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
                draw({"files": total + survey.passed_over.total()}, {})
                rows = []
        if rows:
            yield _table(rows)
        draw({"files": total + survey.passed_over.total()}, {})


def _table(rows: list[FileFact]) -> pa.Table:
    given = {name: [getattr(row, name) for row in rows] for name in schema.CATALOG_REQUIRED}
    arrays = [
        pa.array(given[field.name], field.type) if field.name in given else pa.nulls(len(rows), field.type)
        for field in schema.CATALOG
    ]
    return pa.table(arrays, schema=schema.CATALOG)
