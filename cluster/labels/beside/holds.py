"""Remember what a rollback undid, so that the next run does not bring it back.

A rollback writes one Parquet file into `LABELS/_holds`. Each row names a track with the content, model and front end
that the rollback took out of the table. Or it names a removal or a pruning that the rollback undid, with the content of
the row that it brought back. A plan leaves these out until a run with `--resume` commits, or until the content or the
model changes.

The file is written before the rollback's commit, into `_holds/pending`, and moved up once that commit is in the log.
Its name holds the version and the attempt of that commit. So a file whose commit never happened is recognised and
ignored, also when the log no longer reaches back to that version. Every later commit of mgc deletes such files first.

A run with `--resume` says so in its commit. From then on, earlier rollbacks hold nothing back,
whether or not their files are deleted. Later ones do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.labels.log import ATTEMPT, RESUMED, Entry, number
from cluster.storage import files
from cluster.storage.notice import notice
from cluster.storage.uri import Uri
from cluster.tables.duckdb import AS_WRITTEN, open_duckdb
from cluster.tables.parquet import open_parquet
from mgc.errors import LabelsError, StorageError

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


def find_undone(undone: pads.Dataset, restored: pads.Dataset, *, whole: bool = True) -> pa.Table:
    """Return what a rollback from one version to another takes out of the table: rows of `HELD`.

    Args:
        undone: rows of the version that the rollback leaves.
        restored: rows of the version that it goes back to.
        whole: whether `undone` has all rows of its version. If some are lost, a track without a row was not pruned.
    """
    with open_duckdb(AS_WRITTEN) as connection:
        connection.register("undone", undone)
        connection.register("version", restored)
        known = "" if whole else " WHERE track_id IN (SELECT track_id FROM undone)"
        connection.sql(f"SELECT * FROM version{known}").create_view("restored")
        return connection.sql(_UNDONE).to_arrow_table().cast(HELD)


def write_hold(table_uri: Uri, version: int, attempt: str, held: pa.Table) -> None:
    """Write what a rollback is about to undo.

    Args:
        table_uri: folder of the labels table.
        version: version that the rollback's commit will make.
        attempt: name of the attempt in that commit.
        held: rows of `HELD`.
    """
    files.write_table(_pending(table_uri) / _name(version, attempt), held)


def drop_hold(table_uri: Uri, version: int, attempt: str) -> None:
    """Delete what a rollback wrote that was not committed."""
    files.delete(_pending(table_uri) / _name(version, attempt))


def confirm_hold(table_uri: Uri, version: int, attempt: str) -> None:
    """Record that a rollback's commit is in the log. Prints a failure and does not raise it: the log says the same."""
    try:
        files.move(_pending(table_uri) / _name(version, attempt), _folder(table_uri) / _name(version, attempt))
    except StorageError as error:
        notice(f"The rollback is committed, but the file of what it undid could not be moved: {error}")


class _File(NamedTuple):
    """A file of holds.

    Attributes:
        uri: the file.
        version: version that the rollback's commit makes.
        attempt: name of the attempt in that commit.
        pending: whether it has not been moved up.
        stands: whether the rollback was committed, and no run has resumed what it undid.
        dead: whether it can no longer stand.
    """

    uri: Uri
    version: int
    attempt: str
    pending: bool
    stands: bool
    dead: bool


def _files(table_uri: Uri, log: Sequence[Entry]) -> Iterator[_File]:
    """Yield the files of all rollbacks, and what the table's log makes of them."""
    versions = [number(entry) for entry in log]
    attempts = {entry[ATTEMPT] for entry in log if ATTEMPT in entry}
    resumed = max((number(entry) for entry in log if RESUMED in entry), default=-1)
    for uri in list_holds(table_uri):
        version, _, attempt = uri.name.removesuffix(".parquet").partition("-")
        if not version.isdecimal():
            continue
        pending, made = uri.parent == _pending(table_uri), int(version)
        # Before the log begins, only files that were moved up are known to belong to a commit.
        committed = attempt in attempts or (not pending and made < min(versions))
        stands = committed and made > resumed
        # A rollback that is under way comes after the log's last entry.
        yield _File(uri, made, attempt, pending, stands, not stands and made <= max(versions))


def read_holds(table_uri: Uri, log: Sequence[Entry]) -> pa.Table:
    """Return what all rollbacks undid and no run has resumed: rows of `HELD`.

    Args:
        table_uri: folder of the labels table.
        log: entries of the table's log.

    Raises:
        LabelsError: a file cannot be read.
    """
    remedy = "Run `mgc label` with --resume to forget what rollbacks undid."
    # While a file is moved up in a bucket, it is at both places.
    found = {each.attempt: each for each in _files(table_uri, log) if each.stands}
    held = HELD.empty_table()
    for each in sorted(found.values(), key=lambda each: each.version):
        rows = open_parquet(each.uri, remedy, LabelsError).to_table()
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


def settle_holds(table_uri: Uri, log: Callable[[], Sequence[Entry]]) -> None:
    """Delete the files of rollbacks that were never committed, and move up those whose commit is in the log.

    A log does not reach back for ever, so every commit does this first. Prints a failure and does
    not raise it: the next commit tries again.

    Args:
        table_uri: folder of the labels table.
        log: function that returns the entries of the table's log; called only if there are files.
    """
    try:
        if not list_holds(table_uri):
            return
        for each in _files(table_uri, log()):
            if each.dead:
                files.delete(each.uri)
            elif each.stands and each.pending:
                confirm_hold(table_uri, each.version, each.attempt)
    except StorageError as error:
        notice(f"Files of earlier rollbacks could not be tidied up: {error}")


def release_holds(table_uri: Uri, before: int) -> None:
    """Forget what rollbacks undid.

    Args:
        table_uri: folder of the labels table.
        before: version of a commit. Rollbacks that came later stay.
    """
    for uri in list_holds(table_uri):
        version = uri.name.partition("-")[0]
        if version.isdecimal() and int(version) < before:
            files.delete(uri)


def _folder(table_uri: Uri) -> Uri:
    return table_uri / "_holds"


def _pending(table_uri: Uri) -> Uri:
    return _folder(table_uri) / "pending"


def _name(version: int, attempt: str) -> str:
    return f"{version}-{attempt}.parquet"
