"""Remember what a rollback undid, so that the next run does not bring it back.

A rollback writes one Parquet file into `LABELS/_holds`. Each row names a track with the content, model and front end
that the rollback took out of the table. Or it names a removal or a pruning that the rollback undid, with the content of
the row that it brought back. A plan leaves these out until a run with `--resume` commits, or until the content or the
model changes.

The file is written before the rollback's commit. Its name holds the version and the attempt of that commit, so a file
whose commit never happened is recognised and ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.duckdb import AS_WRITTEN, open_duckdb
from cluster.tables.parquet import open_parquet
from mgc.errors import LabelsError

HELD: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_tag", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("features_id", pa.string(), nullable=False),
        pa.field("removed", pa.bool_(), nullable=False),
        pa.field("failed", pa.bool_(), nullable=False),
        pa.field("restored", pa.bool_(), nullable=False),
    ]
)
"""One row for each change that a rollback undid. `removed`: the track had been marked as removed, or pruned; then
the ids of model and front end are empty. `failed`: the try had failed. `restored`: the rollback brought
this change back, so earlier holds of it are over."""

_TRIED: Final = (
    "coalesce(tried_uri, uri) AS uri, coalesce(tried_content_tag, content_tag) AS content_tag, "
    "coalesce(tried_model_id, model_id) AS model_id, coalesce(tried_features_id, features_id) AS features_id"
)
_OUTCOME: Final = (
    "top_k, error_kind, last_error_kind, next_try_at, "
    "CASE WHEN coalesce(error_kind, last_error_kind) IS NOT NULL THEN tries END AS failures"
)
"""What came of a try. If a run gave the same answer to the same bytes again, a rollback of it undoes nothing."""

_WHAT: Final = ["track_id", "uri", "content_tag", "model_id", "features_id", "removed"]
"""Columns that say which change it is."""

_COMPARED: Final = (
    "uri", "content_tag", "model_id", "features_id",
    "top_k", "error_kind", "last_error_kind", "next_try_at", "failures",
)  # fmt: skip


def _columns(table: str, names: Sequence[str] = _COMPARED) -> str:
    return ", ".join(f"{table}.{name}" for name in names)


def _removal(table: str) -> str:
    return f"{_columns(table, _WHAT[:3])}, '' AS model_id, '' AS features_id, true AS removed, false AS failed"


_DIFFERS: Final = f"row({_columns('b')}) IS DISTINCT FROM row({_columns('g')})"


_UNDONE: Final = f"""
    WITH bad AS (SELECT track_id, {_TRIED}, {_OUTCOME}, removed_at IS NOT NULL AS removed FROM undone),
        good AS (SELECT track_id, {_TRIED}, {_OUTCOME}, removed_at IS NOT NULL AS removed FROM restored)
    SELECT {_columns("b", _WHAT[:-1])}, false AS removed, b.failures IS NOT NULL AS failed, false AS restored
    FROM bad b LEFT JOIN good g ON b.track_id = g.track_id
    WHERE NOT b.removed AND (g.track_id IS NULL OR {_DIFFERS})
    UNION ALL
    SELECT {_removal("g")}, false AS restored
    FROM good g LEFT JOIN bad b ON b.track_id = g.track_id
    WHERE b.track_id IS NULL OR (b.removed AND NOT g.removed)
    UNION ALL
    SELECT {_columns("g", _WHAT[:-1])}, false AS removed, false AS failed, true AS restored
    FROM good g LEFT JOIN bad b ON b.track_id = g.track_id
    WHERE NOT g.removed AND (b.track_id IS NULL OR {_DIFFERS})
    UNION ALL
    SELECT {_removal("b")}, true AS restored
    FROM bad b LEFT JOIN good g ON b.track_id = g.track_id
    WHERE NOT b.removed AND (g.track_id IS NULL OR g.removed)
    ORDER BY track_id
"""


def find_undone(undone: pads.Dataset, restored: pads.Dataset) -> pa.Table:
    """Return what a rollback from one version to another takes out of the table: rows of `HELD`.

    Args:
        undone: rows of the version that the rollback leaves.
        restored: rows of the version that it goes back to.
    """
    with open_duckdb(AS_WRITTEN) as connection:
        connection.register("undone", undone)
        connection.register("restored", restored)
        return connection.sql(_UNDONE).to_arrow_table().cast(HELD)


def write_hold(table_uri: Uri, version: int, attempt: str, held: pa.Table) -> None:
    """Write what a rollback is about to undo.

    Args:
        table_uri: folder of the labels table.
        version: version that the rollback's commit will make.
        attempt: name of the attempt in that commit.
        held: rows of `HELD`.
    """
    files.write_table(_folder(table_uri) / f"{version}-{attempt}.parquet", held)


def drop_hold(table_uri: Uri, version: int, attempt: str) -> None:
    """Delete what a rollback wrote that was not committed."""
    files.delete(_folder(table_uri) / f"{version}-{attempt}.parquet")


def read_holds(table_uri: Uri, attempts: Sequence[str], oldest: int) -> pa.Table:
    """Return what all rollbacks undid and no run has resumed: rows of `HELD`.

    Args:
        table_uri: folder of the labels table.
        attempts: names of the attempts in the table's log.
        oldest: oldest version in the log. Files of earlier rollbacks count, because their commits are no longer there.

    Raises:
        LabelsError: a file cannot be read.
    """
    remedy = "Run `mgc label` with --resume to forget what rollbacks undid."
    found: list[tuple[int, Uri]] = []
    for uri in list_holds(table_uri):
        version, _, attempt = uri.name.removesuffix(".parquet").partition("-")
        if attempt in attempts or (version.isdecimal() and int(version) < oldest):
            found.append((int(version), uri))
    held = HELD.empty_table()
    for _, uri in sorted(found, key=lambda each: each[0]):
        rows = open_parquet(uri, remedy, LabelsError).to_table()
        for name in ("failed", "restored"):
            # Files from before these columns have neither.
            if name not in rows.column_names:
                rows = rows.append_column(name, pa.array([False] * rows.num_rows))
        rows = rows.select(HELD.names).cast(HELD)
        restored = rows.filter(rows["restored"])
        held = held.join(restored.select(_WHAT), _WHAT, join_type="left anti").select(HELD.names).cast(HELD)
        held = pa.concat_tables([held, rows.filter(pc.invert(rows["restored"]))])
    return held


def list_holds(table_uri: Uri) -> list[Uri]:
    """Return the files of all rollbacks that no run has resumed."""
    return files.list_uris(_folder(table_uri))


def release_holds(table_uri: Uri) -> None:
    """Forget what rollbacks undid."""
    files.delete(_folder(table_uri))


def _folder(table_uri: Uri) -> Uri:
    return table_uri / "_holds"
