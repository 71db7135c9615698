"""`mgc catalog SOURCE --out CATALOG`: index the audio files of a folder or a bucket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from cluster import storage
from cluster.catalog_changes import Beside, Changes, earlier_listing
from cluster.listing import AUDIO_EXTENSIONS, FileFact, list_audio
from cluster.listing_s3 import list_in_parts
from cluster.progress import shown
from cluster.tables import catalog_table, is_parquet, read_catalog, write_catalog
from mgc import schema
from mgc.datasets.splits import split_of
from mgc.errors import CatalogError, StorageError
from pipelines.job import URI, Summary, describe, main, say

_ROWS_AT_ONCE: Final = 20_000
FACTS: Final = (*schema.TRACK_FACTS, "duration_seconds")
"""Columns that a metadata file may give."""


def listed(source: str, limit: int | None = None) -> tuple[pa.Table, Counter[str]]:
    """The audio files of SOURCE as catalog rows, and how many other files were passed over, by extension.

    Raises:
        CatalogError: there is no audio file.
    """
    with tempfile.TemporaryDirectory(prefix="mgc-listing-") as folder:
        tables, ignored = stream(source, folder, limit)
        found = list(_not_empty(tables, ignored, source))
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
    if limit is None and storage.is_remote(source):
        with shown("listing", "files", None) as draw:
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


def _not_empty(tables: Iterable[pa.Table], ignored: Counter[str], source: str) -> Iterator[pa.Table]:
    anything = False
    for table in tables:
        anything = anything or table.num_rows > 0
        yield table
    if not anything:
        passed = f"; {sum(ignored.values())} other files were passed over" if ignored else ""
        raise CatalogError(
            f"{storage.redact(source)}: no audio file here{passed}. SOURCE is a folder, a file or an s3:// prefix."
        )


def read_metadata(uri: str, renamed: dict[str, str]) -> pa.Table:
    """What is known of tracks from elsewhere: `track_id` (the path below SOURCE) and any of `FACTS`.

    Args:
        uri: of a CSV or Parquet file.
        renamed: wanted name → name in the file.

    Raises:
        CatalogError: no `track_id`, none of the other columns, or a track twice.

    Returns:
        In order of track id.
    """
    where = storage.redact(uri)
    data = pa.py_buffer(storage.read_bytes(uri))
    try:
        table = pq.read_table(pa.BufferReader(data)) if is_parquet(uri) else pa.csv.read_csv(pa.BufferReader(data))
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise CatalogError(f"{where}: cannot be read as {'Parquet' if is_parquet(uri) else 'CSV'}: {error}") from None
    for wanted, name in renamed.items():
        if name not in table.column_names:
            raise CatalogError(f"{where}: there is no column {name}; there are {', '.join(table.column_names)}.")
        table = table.append_column(wanted, table[name]) if wanted not in table.column_names else table
    names = [name for name in FACTS if name in table.column_names]
    if "track_id" not in table.column_names or not names:
        raise CatalogError(
            f"{where}: metadata needs track_id and one of {', '.join(FACTS)}; there are "
            f"{', '.join(table.column_names)}. "
            "Name them with `--column track_id=NAME`."
        )
    try:
        columns = {name: table[name].cast(schema.CATALOG.field(name).type) for name in ("track_id", *names)}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CatalogError(f"{where}: a column has another type than a catalog's: {error}") from None
    known = pa.table(columns)
    known = known.filter(known["track_id"].is_valid()).sort_by("track_id")
    ids = known["track_id"]
    if pc.any(pc.equal(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1))).as_py():
        raise CatalogError(f"{where}: a track_id stands there twice.")
    return known


def join_metadata(
    tables: Iterable[pa.Table], known: pa.Table, where: str, counts: dict[str, int]
) -> Iterator[pa.Table]:
    """Catalog rows with what is known of them.

    Args:
        tables: catalog rows in order of track id.
        known: from `read_metadata`.
        where: it was read.
        counts: gets `known`, how many tracks are.

    Raises:
        CatalogError: none is.
    """
    beside = Beside(iter([known]))
    counts["known"] = 0
    first = None
    for table in tables:
        ids = table["track_id"]
        first = first or ids[0].as_py()
        piece = beside.up_to(ids[-1].as_py())
        if piece is not None:
            place = pc.index_in(ids, value_set=piece["track_id"])
            counts["known"] += len(ids) - place.null_count
            for name in piece.column_names[1:]:
                index = schema.CATALOG.get_field_index(name)
                table = table.set_column(index, schema.CATALOG.field(name), piece[name].take(place))
        yield table
    if first is not None and not counts["known"]:
        example = known["track_id"][0].as_py() if known.num_rows else "(none)"
        raise CatalogError(
            f"{where}: no track_id of it is in SOURCE; it has for example {example!r}, SOURCE has {first!r}."
        )


def add_splits(tracks: pa.Table, group: str, seed: int) -> pa.Table:
    """Rows without a split get one by their group: train, validation or test, each group on one side."""
    groups = tracks[group].combine_chunks().dictionary_encode()
    by_group = [split_of(key, seed) for key in groups.dictionary.to_pylist()]
    splits = pa.array(by_group, pa.string()).take(groups.indices)
    given = tracks["split"]
    place = schema.CATALOG.get_field_index("split")
    asked = pc.or_kleene(pc.is_null(given), pc.equal(given, ""))
    return tracks.set_column(place, schema.CATALOG.field("split"), pc.if_else(asked, splits, given))


def counted(
    tables: Iterable[pa.Table], counts: dict[str, int], changes: Changes | None, target: str
) -> Iterator[pa.Table]:
    """The same rows, counted, and compared with the last listing, on their way."""
    counts["tracks"] = counts["bytes"] = 0
    for table in tables:
        counts["tracks"] += table.num_rows
        counts["bytes"] += pc.sum(table["size_bytes"]).as_py() or 0
        changes = _compare(changes, table, target)
        yield table
    changes = _compare(changes, None, target)
    if changes is not None:
        counts.update(changes.counts)


def _compare(changes: Changes | None, table: pa.Table | None, target: str) -> Changes | None:
    """Go on with, or end, a comparison; None when the earlier catalog turns out to be damaged."""
    try:
        if changes is not None and table is not None:
            changes.add(table)
        elif changes is not None:
            changes.end()
    except (CatalogError, StorageError) as error:
        say(f"not compared with the last listing in {storage.redact(target)}: {error}")
        return None
    return changes


def _earlier(target: str, source: str) -> Changes | None:
    try:
        return earlier_listing(target, source)
    except CatalogError as error:
        say(f"not compared with what lies there: {error}")
        return None


def parts_folder(target: str, source: str) -> str:
    """Where the parts of a listing lie until the catalog `target` is complete: beside it, apart from any other's."""
    place = storage.locate(target)
    store = [os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")]
    facts = [storage.locate(source).uri, place.uri, *store, *sorted(AUDIO_EXTENSIONS)]
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    return storage.join(place.uri.rpartition("/")[0], "_listing", key)


def build(
    source: str,
    out: str,
    metadata: str | None = None,
    renamed: dict[str, str] | None = None,
    split_by: str | None = None,
    seed: int = 0,
    notices: tuple[str, ...] = (),
    limit: int | None = None,
    dry_run: bool = False,
) -> Summary:
    """Index SOURCE and write the catalog."""
    target = out if is_parquet(out) else storage.join(out, "catalog.parquet")
    counts: dict[str, int] = {}
    known = read_metadata(metadata, renamed or {}) if metadata else None
    earlier = _earlier(target, source) if limit is None else None
    beside = contextlib.nullcontext(parts_folder(target, source))
    # A dry run writes nothing beside CATALOG.
    with tempfile.TemporaryDirectory(prefix="mgc-listing-") if dry_run else beside as parts:
        tables, ignored = stream(source, parts, limit)
        tables = counted(_not_empty(tables, ignored, source), counts, earlier, target)
        if known is not None:
            tables = join_metadata(tables, known, storage.redact(metadata or ""), counts)
        if split_by:
            tables = (add_splits(table, split_by, seed) for table in tables)
        if dry_run:
            for _ in tables:
                pass
        else:
            write_catalog(target, tables, notices, source if limit is None else None)
            _remove(parts)
    counts["ignored"] = sum(ignored.values())
    if ignored:
        say("ignored: " + ", ".join(f"{count} {name}" for name, count in ignored.most_common(8)))
    if "same" in counts:
        say("since the last listing: {new} new, {changed} changed, {gone} gone, {same} the same".format(**counts))
    if dry_run:
        describe({**counts, "would write": storage.redact(target)})
        return Summary("dry_run", counts)
    say(f"{counts['tracks']} tracks, {counts['bytes'] / 2**20:.1f} MiB -> {storage.redact(target)}")
    return Summary("done", counts, {"catalog": storage.redact(target)})


def _remove(parts: str) -> None:
    storage.delete(parts)
    if not storage.is_remote(parts):
        with contextlib.suppress(OSError):
            Path(parts).parent.rmdir()  # unless another listing is under way


def open_catalog(source_or_catalog: str) -> tuple[pads.Dataset | pa.Table, tuple[str, ...]]:
    """A catalog, which is not held in memory, with its notices; or, where there is none, SOURCE listed now.

    Args:
        source_or_catalog: a Parquet file, a folder with `catalog.parquet` in it, or what `catalog` takes as SOURCE.
    """
    inside = storage.join(source_or_catalog, "catalog.parquet")
    if is_parquet(source_or_catalog) or storage.exists(inside):
        dataset = read_catalog(source_or_catalog if is_parquet(source_or_catalog) else inside)
        return dataset.replace_schema(schema.CATALOG), schema.notices_of(dataset.schema)
    return listed(source_or_catalog)[0], ()


def open_tracks(source_or_catalog: str) -> tuple[pa.Table, tuple[str, ...]]:
    """The same, all rows in memory, in order of track id."""
    tracks, notices = open_catalog(source_or_catalog)
    return (catalog_table(tracks) if isinstance(tracks, pads.Dataset) else tracks), notices


def _tables(facts: Iterator[FileFact], limit: int | None) -> Iterator[pa.Table]:
    with shown("listing", "files", None) as draw:
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


@click.command("catalog")
@click.argument("source", type=URI)
@click.option("--out", type=URI, required=True, help="The catalog: a .parquet file, or a folder for catalog.parquet.")
@click.option(
    "--metadata", type=URI, help="CSV or Parquet with track_id (path below SOURCE) and genre_top, artist_id, split, …"
)
@click.option(
    "--column", "columns", multiple=True, metavar="WANTED=NAME", help="Name of a column in the metadata file."
)
@click.option(
    "--split-by",
    type=click.Choice(["artist_id", "album_id", "track_id"]),
    help="Divide tracks without a split by this group.",
)
@click.option("--seed", default=0, show_default=True, help="Of the division.")
@click.option("--notice", "notices", multiple=True, help="Shown with every figure made from this catalog.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N files.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
def command(
    source: str,
    out: str,
    metadata: str | None,
    columns: tuple[str, ...],
    split_by: str | None,
    seed: int,
    notices: tuple[str, ...],
    limit: int | None,
    dry_run: bool,
) -> Summary:
    """Index the audio files of SOURCE: a folder, a file or an s3:// prefix.

    MP3, OGG, FLAC, WAV, AIFF, M4A, AAC, Opus and WMA; covers and other files are counted as ignored.
    """
    renamed = dict(pair.split("=", 1) for pair in columns if "=" in pair)
    if len(renamed) != len(columns):
        raise click.BadParameter("write WANTED=NAME, for example track_id=filename.", param_hint="--column")
    return build(source, out, metadata, renamed, split_by, seed, notices, limit, dry_run)


if __name__ == "__main__":
    main(command)
