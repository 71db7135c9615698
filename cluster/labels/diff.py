"""Compare two versions of the labels table, and find what its versions say about one track.

Two versions share most of their files, and a track has one row in each version. So a comparison reads only files that
are not in both versions. After a night of new tracks, these are the files of the new tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.labels.beside.seals import check_seals
from cluster.labels.history import Commit, changes, open_version
from cluster.labels.log import data_files
from cluster.labels.readers.export import FileKind, refuse_target, write_rows
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from cluster.tables.duckdb import bounded_duckdb
from cluster.tables.parquet import reading
from mgc.errors import LabelsError

KINDS: Final = ("flipped", "newly_labeled", "newly_quarantined", "newly_stale", "corrected", "added", "back", "gone")
"""Kinds of difference. Each track has one kind: the first that applies, in the order of `_KIND`."""

Row = dict[str, Any]
"""Values of a row by column. Their types differ."""

DIFFERENCES: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        *(
            pa.field(f"{name}_{when}", pa.float64() if name == "confidence" else pa.string())
            for name in ("status", "genre", "confidence", "error_kind", "model_id")
            for when in ("before", "after")
        ),
        pa.field("override_by", pa.string()),
        pa.field("override_reason", pa.string()),
    ]
)
"""Columns of the file that `diff --out` writes, with one row for each track that differs."""

SIMILAR_IDS: Final = 3
"""Number of track ids suggested in place of an unknown one."""

_REMEDY: Final = "Choose other versions; `mgc labels history` lists them."

_READ: Final = (
    "track_id, status, genre_top, confidence, error_kind, model_id, override_by, override_reason, "
    "removed_at IS NOT NULL AS removed, stale_since IS NOT NULL AS stale"
)

# `corrected`: the track has a correction that is new or changed. A withdrawn correction is a flip if the genre changes.
_KIND: Final = """
    CASE WHEN a.track_id IS NULL THEN CASE WHEN b.removed THEN NULL ELSE 'added' END
         WHEN a.removed THEN CASE WHEN NOT b.removed THEN 'back' END
         WHEN b.track_id IS NULL OR b.removed THEN 'gone'
         WHEN b.override_by IS NOT NULL AND (a.override_by IS NULL OR a.genre_top IS DISTINCT FROM b.genre_top)
              THEN 'corrected'
         WHEN a.status <> b.status THEN CASE b.status WHEN 'labeled' THEN 'newly_labeled' ELSE 'newly_quarantined' END
         WHEN a.status = 'labeled' AND a.genre_top <> b.genre_top THEN 'flipped'
         WHEN b.stale AND NOT a.stale THEN 'newly_stale' END
"""

_DIFFERENCES: Final = f"""
    CREATE TEMP TABLE differences AS
    SELECT coalesce(a.track_id, b.track_id) AS track_id, {_KIND} AS kind,
        a.status AS status_before, b.status AS status_after, a.genre_top AS genre_before, b.genre_top AS genre_after,
        a.confidence AS confidence_before, b.confidence AS confidence_after,
        a.error_kind AS error_kind_before, b.error_kind AS error_kind_after,
        a.model_id AS model_id_before, b.model_id AS model_id_after, b.override_by, b.override_reason
    FROM (SELECT {_READ} FROM before) a FULL OUTER JOIN (SELECT {_READ} FROM after) b USING (track_id)
    WHERE kind IS NOT NULL
"""


@dataclass(frozen=True)
class Difference:
    """Differences between two versions.

    Attributes:
        counts: tracks of each of `KINDS`, and `same`: tracks in both versions with the same answer.
        flips: (genre before, genre after, tracks, mean confidence before, mean confidence after), most tracks first.
        examples: rows of `DIFFERENCES` for each of `KINDS`, most confident first.
        written: number of rows in the file; None if no file was written.
    """

    counts: dict[str, int]
    flips: list[tuple[str, str, int, float, float]]
    examples: dict[str, list[Row]]
    written: int | None


@dataclass(frozen=True)
class TrackRow:
    """Row of a track in a range of versions.

    Attributes:
        row: row of `schema.LABELS`; None if the track has none.
        commit: commit that wrote the row, or else the oldest one that could be read.
        exact: whether that commit certainly wrote the row.
    """

    row: Row | None
    commit: Commit
    exact: bool


@dataclass(frozen=True)
class DifferenceFile:
    """A file for all differences.

    Attributes:
        uri: file to write, outside of the table's folder.
        kind: format of the file.
        overwrite: whether to replace an existing file.
    """

    uri: Uri
    kind: FileKind = "parquet"
    overwrite: bool = False


def diff(uri: Uri, before: int, after: int, limit: int = 10, out: DifferenceFile | None = None) -> Difference:
    """Compare two versions of a table, in bounded memory.

    Args:
        uri: folder of the labels table.
        before: a version.
        after: another version, not necessarily a later one.
        limit: largest number of examples of each kind, and of flips.
        out: file to write all differences to.

    Raises:
        LabelsError: a version cannot be read, the bytes of a file in which they differ have changed, or the file
            exists.
        StorageError: storage fails.
    """
    if out is not None:
        refuse_target(out.uri, uri, out.overwrite)
    tables = [open_version(uri, before), open_version(uri, after)]
    files = [data_files(table.delta) for table in tables]
    check_seals(uri, files[0] ^ files[1])
    with bounded_duckdb() as connection, reading(uri, _REMEDY, LabelsError):
        shared = _rows_present(connection, tables[1].dataset(files[0] & files[1]))
        connection.register("before", tables[0].dataset(files[0] - files[1]))
        connection.register("after", tables[1].dataset(files[1] - files[0]))
        connection.execute(_DIFFERENCES)
        counts = dict.fromkeys(KINDS, 0)
        counts |= dict(connection.sql("SELECT kind, count(*) FROM differences GROUP BY 1").fetchall())
        present = shared + _rows_present(connection, tables[1].dataset(files[1] - files[0]))
        counts["same"] = present - sum(counts[name] for name in KINDS if name != "gone")
        flips = connection.sql(
            "SELECT genre_before, genre_after, count(*) AS n, avg(confidence_before), avg(confidence_after) "
            f"FROM differences WHERE kind = 'flipped' GROUP BY 1, 2 ORDER BY n DESC, 1, 2 LIMIT {limit}"
        ).fetchall()
        examples = {name: _examples(connection, name, limit) for name in KINDS if counts[name]}
        written = None
        if out is not None:
            everything = connection.sql("FROM differences ORDER BY kind, track_id")
            written = write_rows(everything, DIFFERENCES, out.kind, out.uri, uri)
    return Difference(counts, flips, examples, written)


def track_rows(uri: Uri, track_id: str, log: Sequence[Commit], limit: int) -> list[TrackRow]:
    """Return what the table says about a track, and each earlier row that differs, newest first.

    Args:
        uri: folder of the labels table.
        track_id: id of the track.
        log: the table's log, newest first.
        limit: largest number of rows to return.

    Raises:
        LabelsError: no version that can be read has the track; the message suggests similar ids. Or the bytes of the
            file with the newest row have changed.
    """
    found: list[TrackRow] = []
    seen: dict[str, Row | None] = {}
    for commit in changes(log):
        try:
            row = _row(uri, commit.version, track_id, seen)
        except LabelsError:
            if not found:
                raise
            break
        exact = commit.version == 0
        if found and row == found[-1].row:
            found[-1] = TrackRow(row, commit, exact)
            continue
        if found:
            found[-1] = TrackRow(found[-1].row, found[-1].commit, True)
        if len(found) == limit:
            break
        found.append(TrackRow(row, commit, exact))
    if all(each.row is None for each in found):
        raise _unknown(uri, track_id)
    # Leave out the entry that says that the track was absent at first.
    return found[:-1] if found[-1].row is None else found


def find_corrections(table: LabelsTable) -> list[Row]:
    """Return the rows with a correction, in order of track id, those of tracks that left the catalog included.

    `model_genre` is the model's own answer; None if the track could not be decoded.
    """
    with bounded_duckdb() as connection, reading(table.uri, _REMEDY, LabelsError):
        # Arrow skips files whose statistics show no corrections.
        connection.register("labels", table.dataset().filter(pc.field("override_by").is_valid()))
        found = connection.sql(
            "SELECT track_id, genre_top, override_by, override_reason, removed_at, "
            "CASE WHEN error_kind IS NULL THEN top_k[1].genre END AS model_genre FROM labels ORDER BY track_id"
        )
        rows: list[Row] = found.to_arrow_table().to_pylist()
    return rows


def _row(uri: Uri, version: int, track_id: str, seen: dict[str, Row | None]) -> Row | None:
    """Return the row of a track in a version. `seen` keeps what each file says, so that no file is read twice."""
    table = open_version(uri, version)
    files = data_files(table.delta)
    unseen = files - seen.keys()
    wanted = pc.field("track_id").cast(pa.string()) == track_id
    try:
        with reading(uri, _REMEDY, LabelsError):
            # The other columns are read only from the file that has the track.
            holding = table.dataset(unseen).to_table(columns=["__filename"], filter=wanted)
            names = set(holding["__filename"].to_pylist())
            check_seals(uri, names)
            rows = {name: table.dataset({name}).to_table(filter=wanted).to_pylist()[0] for name in names}
    except LabelsError:
        # Parquet's error does not say which file it is.
        check_seals(uri, unseen)
        raise
    seen |= {name: rows.get(name) for name in unseen}
    return next((seen[name] for name in files if seen[name] is not None), None)


def _rows_present(connection: duckdb.DuckDBPyConnection, rows: pads.Dataset) -> int:
    connection.register("counted", rows)
    [(count,)] = connection.sql("SELECT count(*) FROM counted WHERE removed_at IS NULL").fetchall()
    return int(count)


def _examples(connection: duckdb.DuckDBPyConnection, kind: str, limit: int) -> list[Row]:
    rows = connection.sql(
        "FROM differences WHERE kind = $kind "
        f"ORDER BY coalesce(confidence_after, confidence_before) DESC NULLS LAST, track_id LIMIT {limit}",
        params={"kind": kind},
    )
    answer: list[Row] = rows.to_arrow_table().to_pylist()
    return answer


def _unknown(uri: Uri, track_id: str) -> LabelsError:
    with bounded_duckdb() as connection, reading(uri, _REMEDY, LabelsError):
        connection.register("labels", LabelsTable(uri).dataset())
        similar = connection.sql(
            "SELECT track_id FROM labels WHERE jaro_winkler_similarity(track_id, $wanted) > 0.7 "
            f"ORDER BY jaro_winkler_similarity(track_id, $wanted) DESC, track_id LIMIT {SIMILAR_IDS}",
            params={"wanted": track_id},
        ).fetchall()
    hint = f"; similar ids: {', '.join(repr(name) for (name,) in similar)}" if similar else ""
    return LabelsError(f"{uri}: no version has the track {track_id!r}; `mgc show` prints track ids{hint}.")
