"""What differs between two versions of the labels table, and what the versions said of one track.

Versions share most of their files, and a track stands in one row of a version, so that only files are read that the
other version does not have: a night of new tracks only compares nothing but those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.labels.export import refuse_target, write_rows
from cluster.labels.history import Commit, changes, data_files, open_version
from cluster.labels.table import LabelsTable
from cluster.storage.failures import redact
from cluster.tables.duckdb import bounded_duckdb
from cluster.tables.parquet import reading
from mgc import schema
from mgc.errors import LabelsError

KINDS: Final = ("flipped", "newly_labeled", "newly_quarantined", "corrected", "added", "back", "gone")
"""How a track may differ; one kind each, the first that holds of the order in `_KIND`."""

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
"""Columns of the file that `diff --out` writes, one row a track that differs."""

SIMILAR_IDS: Final = 3
"""Track ids offered in place of one that is unknown."""

_REMEDY: Final = "Choose other versions; `mgc labels history` lists them."

_READ: Final = (
    "track_id, status, genre_top, confidence, error_kind, model_id, override_by, override_reason, "
    "removed_at IS NOT NULL AS removed"
)

# `corrected`: there is a correction, and it is new or another one. One that was lifted is a flip, if the genre flips.
_KIND: Final = """
    CASE WHEN a.track_id IS NULL THEN CASE WHEN b.removed THEN NULL ELSE 'added' END
         WHEN a.removed THEN CASE WHEN NOT b.removed THEN 'back' END
         WHEN b.track_id IS NULL OR b.removed THEN 'gone'
         WHEN b.override_by IS NOT NULL AND (a.override_by IS NULL OR a.genre_top IS DISTINCT FROM b.genre_top)
              THEN 'corrected'
         WHEN a.status <> b.status THEN CASE b.status WHEN 'labeled' THEN 'newly_labeled' ELSE 'newly_quarantined' END
         WHEN a.status = 'labeled' AND a.genre_top <> b.genre_top THEN 'flipped' END
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
    """Two versions compared.

    Attributes:
        counts: tracks by each of `KINDS`, and `same`: those in both with the same answer.
        flips: (genre before, genre after, tracks, mean confidence before, mean confidence after), most tracks first.
        examples: rows of `DIFFERENCES`, for each of `KINDS` the most confident first.
        written: rows in the file; None without one.
    """

    counts: dict[str, int]
    flips: list[tuple[str, str, int, float, float]]
    examples: dict[str, list[dict[str, Any]]]
    written: int | None


@dataclass(frozen=True)
class TrackRow:
    """What a stretch of versions says of a track.

    Attributes:
        row: of `schema.LABELS`; None where there is none.
        commit: the one that made it so, or the oldest that could be read.
        exact: whether that commit is known to have made it so.
    """

    row: dict[str, Any] | None
    commit: Commit
    exact: bool


def diff(
    uri: str, before: int, after: int, limit: int = 10, out: str | None = None, kind: str = "parquet",
    overwrite: bool = False,
) -> Difference:  # fmt: skip
    """Compare two versions of a table; of bounded memory, whatever their size.

    Args:
        uri: of the table.
        before: a version.
        after: another one, not necessarily a later one.
        limit: examples of each kind, and flips.
        out: file that takes all differences.
        kind: its format.
        overwrite: replace what is there.

    Raises:
        LabelsError: a version cannot be read, or there is something at `out` already.
        StorageError: storage fails.
    """
    if out is not None:
        refuse_target(out, uri, overwrite)
    tables = [open_version(uri, before), open_version(uri, after)]
    files = [data_files(table) for table in tables]
    with bounded_duckdb() as connection, reading(uri, _REMEDY, LabelsError):
        shared = _rows_present(connection, _some_files(tables[1], files[0] & files[1]))
        connection.register("before", _some_files(tables[0], files[0] - files[1]))
        connection.register("after", _some_files(tables[1], files[1] - files[0]))
        connection.execute(_DIFFERENCES)
        counts = dict.fromkeys(KINDS, 0)
        counts |= dict(connection.sql("SELECT kind, count(*) FROM differences GROUP BY 1").fetchall())
        present = shared + _rows_present(connection, _some_files(tables[1], files[1] - files[0]))
        counts["same"] = present - sum(counts[name] for name in KINDS if name != "gone")
        flips = connection.sql(
            "SELECT genre_before, genre_after, count(*) AS n, avg(confidence_before), avg(confidence_after) "
            f"FROM differences WHERE kind = 'flipped' GROUP BY 1, 2 ORDER BY n DESC, 1, 2 LIMIT {limit}"
        ).fetchall()
        examples = {name: _examples(connection, name, limit) for name in KINDS if counts[name]}
        written = None
        if out is not None:
            everything = connection.sql("FROM differences ORDER BY kind, track_id")
            written = write_rows(everything, DIFFERENCES, kind, out, uri)
    return Difference(counts, flips, examples, written)


def track_rows(uri: str, track_id: str, log: Sequence[Commit], limit: int) -> list[TrackRow]:
    """What the table says of a track, and what it said before: each time that the row changed, newest first.

    Args:
        uri: of the table.
        track_id: of the track.
        log: of the table.
        limit: changes to look back at.

    Raises:
        LabelsError: no version that can be read knows the track; names similar ids.
    """
    found: list[TrackRow] = []
    seen: dict[str, dict[str, Any] | None] = {}
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
    # That it was not there before it came is no news.
    return found[:-1] if found[-1].row is None else found


def _row(uri: str, version: int, track_id: str, seen: dict[str, dict[str, Any] | None]) -> dict[str, Any] | None:
    """The row of a track in a version; `seen` keeps what the files said, so that none is read for two versions."""
    table = open_version(uri, version)
    files = data_files(table)
    unseen = files - seen.keys()
    with reading(uri, _REMEDY, LabelsError):
        wanted = pc.field("track_id").cast(pa.string()) == track_id
        # The other columns only of the file that has the track.
        holding = _some_files(table, unseen).to_table(columns=["__filename"], filter=wanted)
        rows = {
            name: _some_files(table, {name}).to_table(filter=wanted).to_pylist()[0]
            for name in set(holding["__filename"].to_pylist())
        }
    seen |= {name: rows.get(name) for name in unseen}
    return next((seen[name] for name in files if seen[name] is not None), None)


def _some_files(table: LabelsTable, names: set[str]) -> pads.Dataset:
    """The rows of some of a version's files."""
    whole = table.dataset()
    fragments = [
        whole.format.make_fragment(fragment.path, whole.filesystem)
        for fragment in whole.get_fragments()
        if fragment.path in names
    ]
    return pads.FileSystemDataset(fragments, schema.LABELS, whole.format, whole.filesystem)


def _rows_present(connection: duckdb.DuckDBPyConnection, rows: pads.Dataset) -> int:
    connection.register("counted", rows)
    [(count,)] = connection.sql("SELECT count(*) FROM counted WHERE removed_at IS NULL").fetchall()
    return int(count)


def _examples(connection: duckdb.DuckDBPyConnection, kind: str, limit: int) -> list[dict[str, Any]]:
    rows = connection.sql(
        "FROM differences WHERE kind = $kind "
        f"ORDER BY coalesce(confidence_after, confidence_before) DESC NULLS LAST, track_id LIMIT {limit}",
        params={"kind": kind},
    )
    answer: list[dict[str, Any]] = rows.to_arrow_table().to_pylist()
    return answer


def _unknown(uri: str, track_id: str) -> LabelsError:
    with bounded_duckdb() as connection, reading(uri, _REMEDY, LabelsError):
        connection.register("labels", LabelsTable(uri).dataset())
        similar = connection.sql(
            "SELECT track_id FROM labels WHERE jaro_winkler_similarity(track_id, $wanted) > 0.7 "
            f"ORDER BY jaro_winkler_similarity(track_id, $wanted) DESC, track_id LIMIT {SIMILAR_IDS}",
            params={"wanted": track_id},
        ).fetchall()
    hint = f"; similar ids: {', '.join(repr(name) for (name,) in similar)}" if similar else ""
    return LabelsError(f"{redact(uri)}: no version knows the track {track_id!r}{hint}.")
