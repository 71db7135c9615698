"""What is known of a catalog's tracks: from a CSV or Parquet file, a corpus's own files, or the tracks' paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import join
from cluster.tables.catalog_changes import Beside
from cluster.tables.parquet import is_parquet
from mgc import schema
from mgc.datasets import fma, folder, gtzan, jamendo
from mgc.datasets.metadata import FACTS, metadata_table
from mgc.errors import CatalogError

CORPORA: Final = ("fma", "jamendo", "jamendo-low", "gtzan", "folder")
"""Corpora whose own files, or paths, `mgc catalog --corpus` reads."""

FROM_PATHS: Final = ("gtzan", "folder")
"""Those of them that have no files of metadata."""

_JAMENDO_FILE: Final = re.compile(r"(?:^|/)autotagging_genre-(?:train|validation|test)\.tsv$")


@dataclass(frozen=True)
class Metadata:
    """What is known of tracks; used for one listing, from its first row to its last.

    Attributes:
        of: the ids of some tracks, which rise from call to call → a table of those known with `track_id` and facts in
            the same order, and of others perhaps; None where none is.
        where: it is known from, for messages.
        tracks: how many tracks it tells of; None where it tells of any path.
        example: of a track id.
        subsets: only tracks whose `subset` is one of these become rows; None lets every file become one.
        faulty: the ids of some tracks → those whose file the corpus is known to have broken.
        notices: to be shown with every figure made from the tracks.
    """

    of: Callable[[pa.ChunkedArray], pa.Table | None]
    where: str
    tracks: int | None = None
    example: str = ""
    subsets: tuple[str, ...] | None = None
    faulty: Callable[[Iterable[str]], list[str]] | None = None
    notices: tuple[str, ...] = ()


def read_metadata(uri: str, renamed: dict[str, str]) -> pa.Table:
    """What a file tells of tracks: `track_id` (the path below SOURCE) and any of `FACTS`.

    Args:
        uri: of a CSV or Parquet file.
        renamed: wanted name → name in the file.

    Raises:
        CatalogError: no `track_id`, none of the other columns, or a track twice.

    Returns:
        In order of track id.
    """
    where = redact(uri)
    data = pa.py_buffer(files.read_bytes(uri))
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
            "Name them with `--column track_id=NAME`, or their corpus with `--corpus`."
        )
    return metadata_table({name: table[name] for name in ("track_id", *names)}, where, names)


def from_file(uri: str, renamed: dict[str, str] | None = None) -> Metadata:
    """What `read_metadata` finds, for a listing."""
    return from_table(read_metadata(uri, renamed or {}), redact(uri))


def from_table(
    known: pa.Table,
    where: str,
    subsets: tuple[str, ...] | None = None,
    faulty: Callable[[Iterable[str]], list[str]] | None = None,
    notices: tuple[str, ...] = (),
) -> Metadata:
    """Metadata that lie in a table in order of track id, as `read_metadata` gives it."""
    beside = Beside(iter([known]))
    counted = known if subsets is None else known.filter(_inside(known, subsets))
    example = counted["track_id"][0].as_py() if counted.num_rows else "(none)"
    return Metadata(
        lambda ids: beside.up_to(ids[-1].as_py()), where, counted.num_rows, example, subsets, faulty, notices
    )


def from_corpus(
    corpus: str, uris: Sequence[str] = (), genres_uri: str | None = None, subset: fma.Subset | None = None
) -> Metadata:
    """What a corpus tells of its tracks.

    Args:
        corpus: one of `CORPORA`.
        uris: of its files: for FMA tracks.csv or its folder, for MTG-Jamendo TSV files or folders with those of the
            genres; none for those that `FROM_PATHS` names.
        genres_uri: FMA's genres.csv; beside tracks.csv by default.
        subset: of FMA.

    Raises:
        CatalogError: a file is not what it should be, or not there.
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
    """Catalog rows with what is known of them.

    Args:
        tables: catalog rows in order of track id.
        metadata: from one of the functions above, not used yet.
        counts: gets `known` and `unknown`, how many tracks are; where only some subsets are wanted, `other_subsets`,
            how many known ones are in none of these and left out, as the unknown ones are; and where the corpus has
            files known to be broken, `faulty`, how many of them there are.

    Raises:
        CatalogError: none is known and wanted.
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
            f"{metadata.where}: no track_id of it{wanted} is in SOURCE; it has for example {metadata.example!r}, "
            f"SOURCE has {first!r}."
        )


def said(metadata: Metadata, counts: dict[str, int]) -> list[str]:
    """What a person should know of a join that is done, a line each; `missing` may be in `counts` too."""
    left_out = metadata.subsets is not None
    lines = [f"{counts['known']} tracks are known to {metadata.where}"]
    if counts["unknown"]:
        lines.append(
            f"{counts['unknown']} files are not known to it: {'left out' if left_out else 'kept, without genre'}"
        )
    if counts.get("other_subsets"):
        lines.append(f"{counts['other_subsets']} files are of other subsets: left out")
    if counts.get("missing"):
        lines.append(f"{counts['missing']} tracks that it knows have no file in SOURCE")
    if counts.get("faulty"):
        lines.append(
            f"{counts['faulty']} files are known to be short or broken in this corpus: kept; what cannot be heard is "
            "quarantined with its reason"
        )
    return lines


def _inside(table: pa.Table, subsets: tuple[str, ...]) -> pa.ChunkedArray:
    return pc.is_in(table["subset"], value_set=pa.array(subsets, pa.string()))


def _fma(uri: str, genres_uri: str | None, subset: fma.Subset | None) -> Metadata:
    tracks_uri = uri if uri.lower().endswith(".csv") else join(uri, "tracks.csv")
    head, slash, _ = tracks_uri.rpartition("/")
    beside = f"{head}{slash}genres.csv"
    if genres_uri is None and not files.exists(beside):
        raise CatalogError(
            f"{redact(beside)}: not there. It names FMA's genres and lies beside tracks.csv in "
            "fma_metadata.zip; put it there, or give `--genres`."
        )
    genres_uri = genres_uri or beside
    genres = fma.read_genres(files.read_bytes(genres_uri), redact(genres_uri))
    where = redact(tracks_uri)
    return from_table(
        fma.metadata_table(files.read_bytes(tracks_uri), genres, where, subset),
        where,
        None if subset is None else fma.subset_names(subset),
        # The untrimmed tracks are whole.
        None if subset == "full" else fma.faulty,
        (fma.NOTICE,),
    )


def _jamendo(uris: Sequence[str], low: bool) -> Metadata:
    lists: list[str] = []
    for uri in uris:
        inside = (
            [uri]
            if uri.lower().endswith(".tsv")
            else [each.text for each in files.list_uris(uri) if _JAMENDO_FILE.search(each.text)]
        )
        if not inside:
            raise CatalogError(
                f"{redact(uri)}: no autotagging_genre-train.tsv, -validation.tsv or -test.tsv is there; name "
                "the folder of one split of MTG-Jamendo, or its files."
            )
        lists += inside
    known = jamendo.metadata_table({redact(uri): files.read_bytes(uri) for uri in lists}, low)
    return from_table(known, ", ".join(map(redact, uris)), notices=(jamendo.NOTICE,))
