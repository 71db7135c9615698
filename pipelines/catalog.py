"""`mgc catalog SOURCE --out CATALOG`: index the audio files of a folder or a bucket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.compute as pc

from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.listing import AUDIO_EXTENSIONS
from cluster.storage.uri import Uri, is_remote, join, locate
from cluster.tables.catalog import write_catalog
from cluster.tables.catalog_changes import Changes, earlier_listing
from cluster.tables.parquet import is_parquet
from mgc import schema
from mgc.datasets import fma
from mgc.datasets.splits import split_of
from mgc.errors import CatalogError, StorageError
from mgc.units import format_bytes
from pipelines.catalogs.metadata import CORPORA, FROM_PATHS, Metadata, from_corpus, from_file, join_metadata, said
from pipelines.catalogs.sources import not_empty, stream
from pipelines.command.job import URI, Summary, describe, main, say


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
        say(f"not compared with the last listing in {redact(target)}: {error}")
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
    place = locate(target)
    store = [os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")]
    facts = [locate(source).uri, place.uri, *store, *sorted(AUDIO_EXTENSIONS)]
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    return join(place.uri.rpartition("/")[0], "_listing", key)


def build(
    source: str,
    out: str,
    metadata: Metadata | None = None,
    split_by: str | None = None,
    seed: int = 0,
    notices: tuple[str, ...] = (),
    limit: int | None = None,
    dry_run: bool = False,
) -> Summary:
    """Index SOURCE and write the catalog."""
    target = out if is_parquet(out) else join(out, "catalog.parquet")
    counts: dict[str, int] = {}
    earlier = _earlier(target, source) if limit is None else None
    beside = contextlib.nullcontext(parts_folder(target, source))
    # A dry run writes nothing beside CATALOG.
    with tempfile.TemporaryDirectory(prefix="mgc-listing-") if dry_run else beside as parts:
        tables, ignored = stream(source, parts, limit)
        tables = not_empty(tables, ignored, source)
        if metadata is not None:
            tables = join_metadata(tables, metadata, counts)
            notices = (*notices, *(each for each in metadata.notices if each not in notices))
        tables = counted(tables, counts, earlier, target)
        if split_by:
            tables = (add_splits(table, split_by, seed) for table in tables)
        if dry_run:
            for _ in tables:
                pass
        else:
            write_catalog(target, tables, notices, source if limit is None else None)
            _remove(parts)
    counts["ignored"] = sum(ignored.values())
    if metadata is not None:
        if metadata.tracks is not None and limit is None:
            counts["missing"] = metadata.tracks - counts["known"]
        for line in said(metadata, counts):
            say(line)
    if ignored:
        say("ignored: " + ", ".join(f"{count} {name}" for name, count in ignored.most_common(8)))
    if "same" in counts:
        say("since the last listing: {new} new, {changed} changed, {gone} gone, {same} the same".format(**counts))
    if dry_run:
        describe({**counts, "would write": redact(target)})
        return Summary("dry_run", counts)
    say(f"{counts['tracks']} tracks, {format_bytes(counts['bytes'])} -> {redact(target)}")
    return Summary("done", counts, {"catalog": redact(target)})


def _remove(parts: str) -> None:
    files.delete(parts)
    if not is_remote(parts):
        with contextlib.suppress(OSError):
            Path(parts).parent.rmdir()  # unless another listing is under way


def _metadata(
    corpus: str | None, uris: tuple[str, ...], columns: tuple[str, ...], genres: str | None, subset: fma.Subset | None
) -> Metadata | None:
    """What the options ask for; None if they tell nothing of the tracks."""
    renamed = dict(pair.split("=", 1) for pair in columns if "=" in pair)
    if len(renamed) != len(columns):
        raise click.BadParameter("write WANTED=NAME, for example track_id=filename.", param_hint="--column")
    if corpus != "fma" and (genres or subset):
        raise click.UsageError("--genres and --subset go with --corpus fma.")
    if corpus is None:
        if len(uris) > 1:
            raise click.UsageError("one file for --metadata, unless --corpus jamendo says that there are more.")
        return from_file(uris[0], renamed) if uris else None
    if columns:
        raise click.UsageError("--column renames a file of your own; --corpus knows its columns.")
    if corpus in FROM_PATHS and uris:
        raise click.UsageError(f"--corpus {corpus} takes the genre from the path and reads no --metadata.")
    if corpus not in FROM_PATHS and not uris:
        raise click.UsageError(f"--corpus {corpus} needs --metadata; docs/corpora.md says which.")
    if corpus == "fma" and len(uris) > 1:
        raise click.UsageError("--corpus fma takes one --metadata: tracks.csv, or its folder.")
    return from_corpus(corpus, uris, genres, subset)


@click.command("catalog")
@click.argument("source", type=URI)
@click.option("--out", type=URI, required=True, help="The catalog: a .parquet file, or a folder for catalog.parquet.")
@click.option(
    "--metadata",
    type=URI,
    multiple=True,
    help="CSV or Parquet with track_id (path below SOURCE) and genre_top, artist_id, split, …; or the corpus's files.",
)
@click.option(
    "--corpus",
    type=click.Choice(CORPORA),
    help="What SOURCE holds: then its own metadata, or its paths, tell genre, artist, split.",
)
@click.option("--genres", type=URI, help="FMA's genres.csv  [default: beside tracks.csv]")
@click.option("--subset", type=click.Choice(fma.SUBSETS), help="Only the tracks of this subset of FMA.")
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
    source: Uri,
    out: Uri,
    metadata: tuple[Uri, ...],
    corpus: str | None,
    genres: Uri | None,
    subset: fma.Subset | None,
    columns: tuple[str, ...],
    split_by: str | None,
    seed: int,
    notices: tuple[str, ...],
    limit: int | None,
    dry_run: bool,
) -> Summary:
    """Index the audio files of SOURCE: a folder, a file or an s3:// prefix.

    MP3, OGG, FLAC, WAV, AIFF, AU, M4A, AAC, Opus and WMA; covers and other files are counted as ignored.
    """
    tables = tuple(place.text for place in metadata)
    known = _metadata(corpus, tables, columns, genres.text if genres else None, subset)
    return build(source.text, out.text, known, split_by, seed, notices, limit, dry_run)


if __name__ == "__main__":
    main(command)
