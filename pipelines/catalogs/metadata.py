"""Metadata of a catalog's tracks: from a CSV or Parquet file, a corpus's own files, or the tracks' paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.catalog_changes import Beside
from cluster.tables.inspection import read_chosen
from cluster.tables.parquet import is_parquet
from cluster.tables.spreadsheet import read_csv
from mgc import schema
from mgc.datasets import fma, folder, gtzan, jamendo
from mgc.datasets.fma_subsets import Subset
from mgc.datasets.metadata import FACTS, metadata_table
from mgc.errors import CatalogError
from mgc.units import format_count
from pipelines.catalogs.requests import MetadataRequest

_JAMENDO_FILE: Final = re.compile(r"(?:^|/)autotagging_genre-(?:train|validation|test)\.tsv$")


@dataclass(frozen=True)
class Metadata:
    """Metadata of tracks, for one listing from its first row to its last.

    Attributes:
        of: function from the ids of some tracks, which increase from call to call, to a table with `track_id` and facts
            in the same order. The table has the known tracks, and may have others; None if no track is known.
        where: place of the metadata, for messages.
        tracks: number of tracks with metadata; None if every path has metadata.
        example: a track id, for messages.
        subsets: values of `subset` whose tracks become rows; None makes a row for every file.
        faulty: function from the ids of some tracks to those whose files are known to be broken in this corpus.
        notices: notices to show with every figure made from the tracks.
    """

    of: Callable[[pa.ChunkedArray], pa.Table | None]
    where: str
    tracks: int | None = None
    example: str = ""
    subsets: tuple[str, ...] | None = None
    faulty: Callable[[Iterable[str]], list[str]] | None = None
    notices: tuple[str, ...] = ()


def read_request(request: MetadataRequest) -> Metadata:
    """Read the metadata that a request names."""
    if request.corpus is None:
        return from_file(request.uris[0], request.renamed)
    return from_corpus(request.corpus, request.uris, request.genres, request.subset)


def read_metadata(uri: Uri, renamed: Mapping[str, str]) -> pa.Table:
    """Read a file of metadata. Returns `track_id` (the path below SOURCE) and any of `FACTS`, in order of track id.

    Args:
        uri: CSV or Parquet file.
        renamed: names of the columns in the file, by catalog column.

    Raises:
        CatalogError: the file lacks `track_id`, has none of the other columns, or has a track twice.
    """
    where = str(uri)
    if is_parquet(uri):
        table = read_chosen(uri, lambda names: _columns_of(names, renamed, where).values(), "", CatalogError)
    else:
        try:
            table = read_csv(files.read_bytes(uri), _texts(renamed))
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise CatalogError(
                f"{where}: cannot be read as CSV ({error}). Correct it, or write the file as Parquet."
            ) from None
    columns = _columns_of(table.column_names, renamed, where)
    return metadata_table({wanted: table[name] for wanted, name in columns.items()}, where, [*columns][1:])


def _texts(renamed: Mapping[str, str]) -> pa.csv.ConvertOptions:
    """Return options with which texts stay as they are written: 007 and 1e5 are no numbers, NA is a word."""
    names = [field.name for field in schema.CATALOG if field.type == pa.string()]
    columns = {*names, *(renamed[name] for name in names if name in renamed)}
    return pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False)


def _columns_of(names: Sequence[str], renamed: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the names of the columns in a file, by catalog column: `track_id` first, then any of `FACTS`.

    Raises:
        CatalogError: there is no column with the track ids, or none with facts.
    """
    for name in renamed.values():
        if name not in names:
            raise CatalogError(f"{where}: there is no column {name}; there are {', '.join(names)}.")
    given = {wanted: wanted if wanted in names else renamed.get(wanted) for wanted in ("track_id", *FACTS)}
    columns = {wanted: name for wanted, name in given.items() if name is not None}
    if "track_id" not in columns or len(columns) < 2:
        raise CatalogError(
            f"{where}: metadata needs track_id and one of {', '.join(FACTS)}; the columns are {', '.join(names)}. Name "
            "them with `--column track_id=NAME`, or the corpus with `--corpus`."
        )
    return columns


def from_file(uri: Uri, renamed: Mapping[str, str] | None = None) -> Metadata:
    """Return the metadata of a CSV or Parquet file. See `read_metadata`."""
    return from_table(read_metadata(uri, renamed or {}), str(uri))


def from_table(
    known: pa.Table,
    where: str,
    subsets: tuple[str, ...] | None = None,
    faulty: Callable[[Iterable[str]], list[str]] | None = None,
    notices: tuple[str, ...] = (),
) -> Metadata:
    """Return the metadata of a table in order of track id. See `Metadata` for the arguments."""
    beside = Beside(iter([known]))
    wanted = known if subsets is None else known.filter(_inside(known, subsets))
    example = wanted["track_id"][0].as_py() if wanted.num_rows else "(none)"
    return Metadata(
        lambda ids: beside.up_to(ids[-1].as_py()), where, wanted.num_rows, example, subsets, faulty, notices
    )


def from_corpus(
    corpus: str, uris: Sequence[Uri] = (), genres_uri: Uri | None = None, subset: Subset | None = None
) -> Metadata:
    """Return a corpus's own metadata.

    Args:
        corpus: one of `CORPORA`.
        uris: files of the corpus: tracks.csv or its folder for FMA; TSV files, or folders with those of the genres, for
            MTG-Jamendo; none for the corpora of `FROM_PATHS`.
        genres_uri: FMA's genres.csv; by default the one next to tracks.csv.
        subset: subset of FMA.

    Raises:
        CatalogError: a file is missing, or is not what it should be.
    """
    if corpus == "fma":
        return _fma(uris[0], genres_uri, subset)
    if corpus in ("jamendo", "jamendo-low"):
        return _jamendo(uris, low=corpus == "jamendo-low")
    if corpus == "gtzan":
        return Metadata(
            lambda ids: gtzan.metadata_table(ids.to_pylist()),
            "GTZAN",
            gtzan.TRACKS,
            "blues/blues.00000.wav",
            faulty=gtzan.faulty,
            notices=(gtzan.NOTICE,),
        )
    return Metadata(
        lambda ids: folder.metadata_table(ids.to_pylist()),
        "the folders of SOURCE",
        example="genre/track.mp3",
        notices=(folder.NOTICE,),
    )


def join_metadata(tables: Iterable[pa.Table], metadata: Metadata, counts: dict[str, int]) -> Iterator[pa.Table]:
    """Yield catalog rows with their metadata.

    Args:
        tables: catalog rows in order of track id.
        metadata: metadata that no listing has used yet.
        counts: dict that receives `known` and `unknown`, the numbers of tracks with and without metadata. If only some
            subsets are requested, `other_subsets` is the number of known tracks outside of them; these and the unknown
            tracks are left out. If the corpus has files known to be broken, `faulty` is their number.

    Raises:
        CatalogError: no track is both known and in a requested subset.
    """
    counts.update(known=0, unknown=0)
    counts.update({"other_subsets": 0} if metadata.subsets is not None else {})
    counts.update({"faulty": 0} if metadata.faulty is not None else {})
    first = None
    for table in tables:
        ids = table["track_id"]
        first = first or ids[0].as_py()
        piece = metadata.of(ids)
        missing = len(ids)
        if piece is not None:
            place = pc.index_in(ids, value_set=piece["track_id"])
            missing = place.null_count
            for name in piece.column_names[1:]:
                index = schema.CATALOG.get_field_index(name)
                table = table.set_column(index, schema.CATALOG.field(name), piece[name].take(place))
        counts["unknown"] += missing
        known = len(ids) - missing
        if metadata.subsets is not None:
            table = table.filter(_inside(table, metadata.subsets))
            counts["other_subsets"] += known - table.num_rows
            known = table.num_rows
        counts["known"] += known
        if metadata.faulty is not None:
            counts["faulty"] += len(metadata.faulty(table["track_id"].to_pylist()))
        if table.num_rows:
            yield table
    if first is not None and not counts["known"]:
        wanted = "" if metadata.subsets is None else f" of the subset(s) {', '.join(metadata.subsets)}"
        raise CatalogError(
            f"{metadata.where}: none of its track ids{wanted} is in SOURCE. It has {metadata.example!r}, for example; "
            f"SOURCE has {first!r}. Give the SOURCE that the ids are relative to, or rename the ids."
        )


def describe_join(metadata: Metadata, counts: Mapping[str, int]) -> list[str]:
    """Return what a person should know of a finished join, one line each.

    Args:
        metadata: metadata that were joined.
        counts: counts of `join_metadata`, and `missing` where it is known.
    """
    left_out = metadata.subsets is not None
    lines = [f"{format_count(counts['known'], 'track')} with metadata in {metadata.where}"]
    if counts["unknown"]:
        lines.append(
            f"{format_count(counts['unknown'], 'file')} without any there: "
            f"{'left out' if left_out else 'kept, without genre'}"
        )
    if counts.get("other_subsets"):
        lines.append(f"{format_count(counts['other_subsets'], 'file')} of other subsets: left out")
    if counts.get("missing"):
        lines.append(f"{format_count(counts['missing'], 'track')} with metadata and without a file in SOURCE")
    if counts.get("faulty"):
        lines.append(
            f"{format_count(counts['faulty'], 'file')} known to be short or broken in this corpus: kept; what cannot "
            "be decoded is quarantined with its reason"
        )
    return lines


def _inside(table: pa.Table, subsets: tuple[str, ...]) -> pa.ChunkedArray:
    return pc.is_in(table["subset"], value_set=pa.array(subsets, pa.string()))


def _fma(uri: Uri, genres_uri: Uri | None, subset: Subset | None) -> Metadata:
    tracks_uri = uri if uri.name.lower().endswith(".csv") else uri / "tracks.csv"
    beside = tracks_uri.parent / "genres.csv"
    if genres_uri is None and not files.exists(beside, asked=uri):
        raise CatalogError(
            f"{beside}: this file is missing. It names FMA's genres and comes with tracks.csv in fma_metadata.zip. Put "
            "it there, or give `--genres`."
        )
    genres_uri = genres_uri or beside
    genres = fma.read_genres(files.read_bytes(genres_uri), str(genres_uri))
    where = str(tracks_uri)
    return from_table(
        fma.metadata_table(files.read_bytes(tracks_uri), genres, where, subset),
        where,
        None if subset is None else fma.subset_names(subset),
        # The untrimmed tracks have no such faults.
        None if subset == "full" else fma.faulty,
        (fma.NOTICE,),
    )


def _jamendo(uris: Sequence[Uri], low: bool) -> Metadata:
    lists: list[Uri] = []
    for uri in uris:
        inside = [uri]
        if not uri.name.lower().endswith(".tsv"):
            inside = [each for each in files.list_uris(uri) if _JAMENDO_FILE.search(each.path)]
        if not inside:
            raise CatalogError(
                f"{uri}: there is no autotagging_genre-train.tsv, -validation.tsv or -test.tsv here. Name the folder "
                "of one split of MTG-Jamendo, or its files."
            )
        lists += inside
    known = jamendo.metadata_table({str(uri): files.read_bytes(uri) for uri in lists}, low)
    return from_table(known, ", ".join(map(str, uris)), notices=(jamendo.NOTICE,))
