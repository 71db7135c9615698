"""`mgc catalog SOURCE --out CATALOG`: index the audio files of a folder or a bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import click
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from cluster import storage
from cluster.listing import FileFact, list_audio
from cluster.progress import shown
from cluster.tables import catalog_table, is_parquet, query, read_catalog, write_catalog
from mgc import schema
from mgc.datasets.splits import split_of
from mgc.errors import CatalogError
from pipelines.job import URI, Summary, describe, main, say

_ROWS_AT_ONCE: Final = 20_000
FACTS: Final = (*schema.TRACK_FACTS, "duration_seconds")
"""Columns that a metadata file may give."""


def listed(source: str, limit: int | None = None) -> tuple[pa.Table, Counter[str]]:
    """The audio files of SOURCE as catalog rows, and how many other files were passed over, by extension.

    Raises:
        CatalogError: there is no audio file.
    """
    ignored: Counter[str] = Counter()
    tables = list(_tables(list_audio(source, ignored), limit))
    if not tables:
        passed = f"; {sum(ignored.values())} other files were passed over" if ignored else ""
        raise CatalogError(
            f"{storage.redact(source)}: no audio file here{passed}. SOURCE is a folder, a file or an s3:// prefix."
        )
    table = pa.concat_tables(tables)
    return table, ignored


def read_metadata(uri: str, renamed: dict[str, str]) -> pa.Table:
    """What is known of tracks from elsewhere: `track_id` (the path below SOURCE) and any of `FACTS`.

    Args:
        uri: of a CSV or Parquet file.
        renamed: wanted name → name in the file.

    Raises:
        CatalogError: no `track_id`, none of the other columns, or a track twice.
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
    if len(known["track_id"].unique()) != known.num_rows:
        raise CatalogError(f"{where}: a track_id stands there twice.")
    return known


def join_metadata(tracks: pa.Table, known: pa.Table, where: str) -> tuple[pa.Table, int]:
    """Catalog rows with what is known of them, and how many are known.

    Raises:
        CatalogError: none is.
    """
    names = [name for name in FACTS if name in known.column_names]
    columns = ", ".join(
        f"known.{field.name}" if field.name in names else f"tracks.{field.name}" for field in schema.CATALOG
    )
    joined = query(
        f"SELECT {columns}, known.track_id IS NOT NULL AS is_known "
        "FROM tracks LEFT JOIN known USING (track_id) ORDER BY tracks.track_id",
        tracks=tracks,
        known=known,
    )
    matched = int(sum(joined["is_known"].to_pylist()))
    if not matched:
        first = known["track_id"][0].as_py() if known.num_rows else "(none)"
        raise CatalogError(
            f"{where}: no track_id of it is in SOURCE; it has for example {first!r}, SOURCE has "
            f"{tracks['track_id'][0].as_py()!r}."
        )
    return joined.drop_columns(["is_known"]).cast(schema.CATALOG), matched


def add_splits(tracks: pa.Table, group: str, seed: int) -> pa.Table:
    """Rows without a split get one by their group: train, validation or test, each group on one side."""
    splits = [
        split or (split_of(key, seed) if key is not None else None)
        for split, key in zip(tracks["split"].to_pylist(), tracks[group].to_pylist(), strict=True)
    ]
    place = schema.CATALOG.get_field_index("split")
    return tracks.set_column(place, schema.CATALOG.field("split"), pa.array(splits, pa.string()))


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
    tracks, ignored = listed(source, limit)
    counts = {
        "tracks": tracks.num_rows,
        "bytes": sum(tracks["size_bytes"].to_pylist()),
        "ignored": sum(ignored.values()),
    }
    if metadata:
        tracks, counts["known"] = join_metadata(
            tracks, read_metadata(metadata, renamed or {}), storage.redact(metadata)
        )
    if split_by:
        tracks = add_splits(tracks, split_by, seed)
    if ignored:
        say("ignored: " + ", ".join(f"{count} {name}" for name, count in ignored.most_common(8)))
    target = out if is_parquet(out) else storage.join(out, "catalog.parquet")
    if dry_run:
        describe({**counts, "would write": storage.redact(target)})
        return Summary("dry_run", counts)
    write_catalog(out, [tracks], notices)
    say(f"{tracks.num_rows} tracks, {counts['bytes'] / 2**20:.1f} MiB -> {storage.redact(target)}")
    return Summary("done", counts, {"catalog": storage.redact(target)})


def open_tracks(source_or_catalog: str, limit: int | None = None) -> tuple[pa.Table, tuple[str, ...]]:
    """All rows of a catalog with its notices; or, where there is none, of SOURCE listed now.

    Args:
        source_or_catalog: a Parquet file, a folder with `catalog.parquet` in it, or what `catalog` takes as SOURCE.
        limit: of listing; a catalog is read whole.
    """
    inside = storage.join(source_or_catalog, "catalog.parquet")
    if is_parquet(source_or_catalog) or storage.exists(inside):
        dataset = read_catalog(source_or_catalog if is_parquet(source_or_catalog) else inside)
        tracks = catalog_table(dataset)
        if not tracks.num_rows:
            raise CatalogError(f"{storage.redact(source_or_catalog)}: the catalog holds no track.")
        return tracks, schema.notices_of(dataset.schema)
    return listed(source_or_catalog)[0], ()


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
