"""`mgc catalog SOURCE --out CATALOG`: index the audio files of a folder or a bucket."""

from __future__ import annotations

import click

from cluster.storage.selection import Selection
from cluster.storage.uri import Uri
from mgc.datasets.fma_subsets import SUBSETS, Subset
from pipelines.catalogs.requests import CORPORA, FROM_PATHS, CatalogRequest, MetadataRequest, TagsRequest
from pipelines.command.job import Summary, main
from pipelines.command.options import URI
from pipelines.command.selecting import choosing_files


def _metadata(
    corpus: str | None, uris: tuple[Uri, ...], columns: tuple[str, ...], genres: Uri | None, subset: Subset | None
) -> MetadataRequest | None:
    """Return where the metadata come from, or None if the options name no metadata."""
    renamed = dict(pair.split("=", 1) for pair in columns if "=" in pair)
    if len(renamed) != len(columns):
        raise click.BadParameter("write WANTED=NAME, for example track_id=filename.", param_hint="--column")
    if corpus != "fma" and (genres or subset):
        raise click.UsageError("--genres and --subset go with --corpus fma.")
    if corpus is None:
        if len(uris) > 1:
            raise click.UsageError("--metadata takes one file, except with --corpus jamendo.")
        if columns and not uris:
            raise click.UsageError("--column goes with --metadata.")
        return MetadataRequest(uris, renamed=renamed) if uris else None
    if columns:
        raise click.UsageError("--column renames the columns of your own file; a corpus has known columns.")
    if corpus in FROM_PATHS and uris:
        raise click.UsageError(f"--corpus {corpus} takes the genre from the path and reads no --metadata.")
    if corpus not in FROM_PATHS and not uris:
        raise click.UsageError(f"--corpus {corpus} needs --metadata; docs/corpora.md says which.")
    if corpus == "fma" and len(uris) > 1:
        raise click.UsageError("--corpus fma takes one --metadata: tracks.csv, or its folder.")
    return MetadataRequest(uris, corpus, genres=genres, subset=subset)


def _tags(
    wanted: bool, aliases: Uri | None, whitelist: Uri | None, tree: Uri | None, other: MetadataRequest | None
) -> TagsRequest | None:
    """Return how to read the files' tags, or None if they are not wanted."""
    if not wanted:
        if aliases or whitelist or tree:
            raise click.UsageError("--aliases, --whitelist and --tree go with --tags.")
        return None
    if other is not None:
        raise click.UsageError("--tags takes genre and artist from the files; leave out --metadata and --corpus.")
    if tree and not whitelist:
        raise click.UsageError("--tree leads from a genre to one of --whitelist; give both.")
    return TagsRequest(aliases, whitelist, tree)


@click.command("catalog")
@click.argument("source", type=URI)
@click.option("--out", type=URI, required=True, help="Catalog to write: a .parquet file, or a folder.")
@click.option(
    "--metadata",
    type=URI,
    multiple=True,
    help="CSV or Parquet with track_id (path below SOURCE) and genre_top, artist_id, split, …; or the corpus's files.",
)
@click.option(
    "--corpus",
    type=click.Choice(CORPORA),
    help="Corpus in SOURCE. Its own metadata or paths give genre, artist and split.",
)
@click.option("--genres", type=URI, help="FMA's genres.csv. The default is the one beside tracks.csv.")
@click.option("--subset", type=click.Choice(SUBSETS), help="Take only the tracks of this subset of FMA.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="WANTED=NAME",
    help="Read the catalog's column WANTED from column NAME of the metadata, as in genre_top=style; repeat it for "
    "several.",
)
@click.option(
    "--tags",
    is_flag=True,
    help="Read genre, artist, album, title and year from the files' own tags, a few KiB of each.",
)
@click.option("--aliases", type=URI, help="CSV of spelling,genre that adds to mgc's own, or replaces its lines.")
@click.option("--whitelist", type=URI, help="Text file of the only genres to keep, one a line.")
@click.option("--tree", type=URI, help="CSV of genre,parent. A genre becomes its nearest ancestor on the whitelist.")
@click.option(
    "--split-by",
    type=click.Choice(["artist_id", "album_id", "track_id"]),
    help="Divide tracks without a split into train, validation and test. Tracks that share this id stay on one side.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of that division.")
@click.option("--notice", "notices", multiple=True, help="Notice to show with every figure made from this catalog.")
@choosing_files
@click.option("--limit", type=click.IntRange(1), help="Take only the first N files.")
@click.option("--dry-run", is_flag=True, help="Print what would be done.")
def command(
    source: Uri,
    out: Uri,
    metadata: tuple[Uri, ...],
    corpus: str | None,
    genres: Uri | None,
    subset: Subset | None,
    columns: tuple[str, ...],
    tags: bool,
    aliases: Uri | None,
    whitelist: Uri | None,
    tree: Uri | None,
    split_by: str | None,
    seed: int,
    notices: tuple[str, ...],
    limit: int | None,
    dry_run: bool,
    selection: Selection,
) -> Summary:
    """Index the audio files of SOURCE: a folder, a file or an s3:// prefix.

    Takes all files whose extension is one of those that mgc's decoders know (.mp3, .flac, .m4a, .wv and so on), and
    files without an extension that begin like audio. Other files are passed over and counted.
    """
    known = _metadata(corpus, metadata, columns, genres, subset)
    wanted = _tags(tags, aliases, whitelist, tree, known)
    request = CatalogRequest(source, out, known, split_by, seed, notices, limit, dry_run, selection, wanted)
    from pipelines.catalogs.index import index_source

    return index_source(request)


if __name__ == "__main__":
    main(command)
