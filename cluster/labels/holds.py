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
    ]
)
"""One row for each change that a rollback undid. `removed`: the track had been marked as removed, or pruned."""

_TRIED: Final = (
    "coalesce(tried_uri, uri) AS uri, coalesce(tried_content_tag, content_tag) AS content_tag, "
    "coalesce(tried_model_id, model_id) AS model_id, coalesce(tried_features_id, features_id) AS features_id"
)
_OUTCOME: Final = (
    "top_k, error_kind, last_error_kind, next_try_at, "
    "CASE WHEN coalesce(error_kind, last_error_kind) IS NOT NULL THEN tries END AS failures"
)
"""What came of a try. If a run gave the same answer to the same bytes again, a rollback of it undoes nothing."""

_COMPARED: Final = (
    "uri", "content_tag", "model_id", "features_id",
    "top_k", "error_kind", "last_error_kind", "next_try_at", "failures",
)  # fmt: skip


def _columns(table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in _COMPARED)


_UNDONE: Final = f"""
    WITH bad AS (SELECT track_id, {_TRIED}, {_OUTCOME}, removed_at IS NOT NULL AS removed FROM undone),
        good AS (SELECT track_id, {_TRIED}, {_OUTCOME}, removed_at IS NOT NULL AS removed FROM restored)
    SELECT b.track_id, b.uri, b.content_tag, b.model_id, b.features_id, false AS removed
    FROM bad b LEFT JOIN good g ON b.track_id = g.track_id
    WHERE NOT b.removed AND (g.track_id IS NULL OR row({_columns("b")}) IS DISTINCT FROM row({_columns("g")}))
    UNION ALL
    SELECT g.track_id, g.uri, g.content_tag, g.model_id, g.features_id, true AS removed
    FROM good g LEFT JOIN bad b ON b.track_id = g.track_id
    WHERE b.track_id IS NULL OR (b.removed AND NOT g.removed)
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
    tables = [HELD.empty_table()]
    for uri in list_holds(table_uri):
        version, _, attempt = uri.name.removesuffix(".parquet").partition("-")
        if attempt in attempts or (version.isdecimal() and int(version) < oldest):
            tables.append(open_parquet(uri, remedy, LabelsError).to_table().select(HELD.names).cast(HELD))
    return pa.concat_tables(tables)


def list_holds(table_uri: Uri) -> list[Uri]:
    """Return the files of all rollbacks that no run has resumed."""
    return files.list_uris(_folder(table_uri))


def release_holds(table_uri: Uri) -> None:
    """Forget what rollbacks undid."""
    files.delete(_folder(table_uri))


def _folder(table_uri: Uri) -> Uri:
    return table_uri / "_holds"
