"""`mgc catalog`: list a source, add metadata, compare with the last listing, and write the catalog.

Rows stream from the listing to the catalog and are never all in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from cluster.storage import files, s3
from cluster.storage.listing.extensions import AUDIO_EXTENSIONS
from cluster.storage.listing.facts import Survey
from cluster.storage.selection import ALL, Selection
from cluster.storage.uri import Uri
from cluster.tables.catalog import total_bytes, write_catalog
from cluster.tables.catalog_changes import Changes, earlier_listing
from cluster.tables.parquet import is_parquet
from mgc import schema
from mgc.datasets.splits import split_of
from mgc.errors import CatalogError, StorageError
from mgc.units import format_bytes, format_count
from pipelines.catalogs.metadata import Metadata, describe_join, join_metadata, read_request
from pipelines.catalogs.requests import CatalogRequest
from pipelines.catalogs.sources import refuse_empty, stream
from pipelines.catalogs.surveys import count_survey, describe_survey
from pipelines.catalogs.tagging import Tagging, read_names
from pipelines.command.job import Summary, describe, say


def index_source(request: CatalogRequest, tally: Callable[[pa.Table], object] | None = None) -> Summary:
    """Index a source and write its catalog.

    Args:
        request: what to list, and where to write it.
        tally: gets all rows of the catalog, table by table, in a dry run too.
    """
    source, limit = request.source, request.limit
    metadata = read_request(request.metadata) if request.metadata is not None else None
    names = read_names(request.tags) if request.tags is not None else None
    target = request.out if is_parquet(request.out) else request.out / "catalog.parquet"
    counts: dict[str, int] = {}
    selection = request.selection
    notices = request.notices
    if metadata is not None:
        notices = (*notices, *(each for each in metadata.notices if each not in notices))
    if request.out.is_remote:
        # Without credentials the message names what was asked for, not a file in it.
        s3.client(request.out)
    tagging: Tagging | None = None
    with contextlib.ExitStack() as stack:
        parts = stack.enter_context(_parts_folder(request, target))
        tables, survey = stream(source, parts, limit, selection)
        earlier = _open_earlier(target, source, survey) if limit is None else None
        tables = refuse_empty(tables, survey, source)
        if metadata is not None:
            tables = join_metadata(tables, metadata, counts)
        if names is not None:
            whole = source if limit is None else None
            tagging = stack.enter_context(
                Tagging(names, target, whole, whole is not None and source.is_remote, request.split_by)
            )
            tables = tagging.add(tables)
        tables = count_rows(tables, counts, earlier, target)
        if request.split_by:
            tables = (add_splits(table, request.split_by, request.seed) for table in tables)
        if tally is not None:
            tables = _pass_by(tables, tally)
        if request.dry_run:
            for _ in tables:
                pass
        else:
            extra = None if names is None else schema.CATALOG_TAGS
            write_catalog(target, tables, notices, source if limit is None else None, (source,), survey, extra)
            _delete_parts(parts)
    if metadata is not None and metadata.tracks is not None and limit is None:
        counts["missing"] = metadata.tracks - counts["known"]
    _print_counts(counts, metadata, survey)
    seen = count_survey(survey)
    if tagging is not None:
        for line in tagging.describe():
            say(line)
        seen |= tagging.count()
    if request.dry_run:
        describe({**counts, **seen, "would write": str(target)})
        return Summary("dry_run", {**counts, **seen})
    say(f"{format_count(counts['tracks'], 'track')}, {format_bytes(counts['bytes'])} -> {target}")
    return Summary("done", {**counts, **seen}, {"catalog": str(target)})


def _pass_by(tables: Iterable[pa.Table], tally: Callable[[pa.Table], object]) -> Iterator[pa.Table]:
    for table in tables:
        tally(table)
        yield table


def _print_counts(counts: dict[str, int], metadata: Metadata | None, survey: Survey) -> None:
    for line in describe_join(metadata, counts) if metadata is not None else ():
        say(line)
    for line in describe_survey(survey):
        say(line)
    if "same" in counts:
        say("since the last listing: {new} new, {changed} changed, {gone} gone, {same} the same".format(**counts))


def add_splits(tracks: pa.Table, group: str, seed: int) -> pa.Table:
    """Assign a split to rows without one, by their group, so that each group is on one side.

    Args:
        tracks: rows of `schema.CATALOG`.
        group: column of the groups.
        seed: seed of the division.
    """
    groups = tracks[group].combine_chunks().dictionary_encode()
    by_group = [split_of(key, seed) for key in groups.dictionary.to_pylist()]
    splits = pa.array(by_group, pa.string()).take(groups.indices)
    given = tracks["split"]
    place = schema.CATALOG.get_field_index("split")
    asked = pc.or_kleene(pc.is_null(given), pc.equal(given, ""))
    return tracks.set_column(place, schema.CATALOG.field("split"), pc.if_else(asked, splits, given))


def count_rows(
    tables: Iterable[pa.Table], counts: dict[str, int], changes: Changes | None, target: Uri
) -> Iterator[pa.Table]:
    """Yield the same rows. Counts them and compares them with the last listing on the way.

    Args:
        tables: rows of `schema.CATALOG`.
        counts: dict that receives `tracks`, `bytes` and the counts of the comparison.
        changes: comparison with the last listing; None for none.
        target: catalog that will be written, for messages.
    """
    counts["tracks"] = counts["bytes"] = 0
    for table in tables:
        counts["tracks"] += table.num_rows
        counts["bytes"] += total_bytes(table)
        changes = _compare(changes, table, target)
        yield table
    changes = _compare(changes, None, target)
    if changes is not None:
        counts.update(changes.counts)


def _compare(changes: Changes | None, table: pa.Table | None, target: Uri) -> Changes | None:
    """Continue a comparison, or end it if `table` is None. Returns None if the earlier catalog is damaged."""
    try:
        if changes is not None and table is not None:
            changes.add(table)
        elif changes is not None:
            changes.end()
    except (CatalogError, StorageError) as error:
        say(f"not compared with the last listing in {target}: {error}")
        return None
    return changes


def _open_earlier(target: Uri, source: Uri, survey: Survey) -> Changes | None:
    try:
        return earlier_listing(target, source, survey)
    except CatalogError as error:
        say(f"not compared with the earlier catalog: {error}")
        return None


@contextlib.contextmanager
def _parts_folder(request: CatalogRequest, target: Uri) -> Iterator[Uri]:
    """Yield the folder for the parts of a listing. A dry run writes nothing next to the catalog."""
    if not request.dry_run:
        yield parts_folder(target, request.source, request.selection)
        return
    with tempfile.TemporaryDirectory(prefix="mgc-listing-") as folder:
        yield Uri.parse(folder)


def parts_folder(target: Uri, source: Uri, selection: Selection = ALL) -> Uri:
    """Return the folder that keeps the parts of a listing until the catalog is complete.

    The folder is next to the catalog. Its name depends on the catalog, the source, the store and what is listed, so
    that no two listings share one.
    """
    store = [os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")]
    facts = [source.text, target.text, *store, *sorted(AUDIO_EXTENSIONS)]
    patterns = [json.dumps([selection.include, selection.exclude])] if selection else []
    key = hashlib.sha256("\n".join([*facts, *patterns]).encode()).hexdigest()[:16]
    return target.parent / "_listing" / key


def _delete_parts(parts: Uri) -> None:
    """Delete the parts of a listing. The catalog is written, so a failure here is printed and does not fail the job."""
    try:
        files.delete(parts)
    except StorageError as error:
        say(f"the catalog is written, but the parts of its listing could not be deleted: {error}")
        return
    if not parts.is_remote:
        # The folder is not empty while another listing is running.
        with contextlib.suppress(OSError):
            parts.parent.local.rmdir()
