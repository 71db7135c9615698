"""The labels table's past: its commits, the versions that can still be read, going back to one, and deleting old files.

A version is a number in Delta's log. Versions that changed rows (a label run, a rollback) are told from those of
maintenance (a vacuum makes two), so that `latest-1` is the table before the last change, whatever came between.

Rollback and vacuum do not get into each other's way, nor into that of a run:

- A rollback carries the application transaction of the label job. A run planned before it is refused at its commit,
  and one that commits while the rollback is under way makes delta-rs refuse one of the two.
- Both commit right after the version that they looked at, or not at all (`max_commit_retries=0`). A vacuum writes into
  its first commit, before it deletes anything, which versions it keeps; a rollback goes to none that a vacuum gave up.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow.fs
from deltalake import CommitProperties, Transaction
from deltalake.exceptions import DeltaError

from cluster.labels.table import APPLICATION, LabelsTable
from cluster.labels.table import RUN as RUN_FACTS
from cluster.storage.failures import explain, redact
from cluster.storage.uri import locate
from mgc.errors import LabelsError, MgcError, StorageError

RUN: Final = "label run"
ROLLBACK: Final = "rollback"
VACUUM: Final = "vacuum"

ORPHAN_HOURS: Final = 7 * 24
"""A data file that no commit names is deleted at this age: a killed writer left it. No commit takes so long."""

_ATTEMPT: Final = "mgc.attempt"
_ROLLBACK: Final = "mgc.rollback"
_VACUUM: Final = "mgc.vacuum"

_SAME_ROWS: Final = ("VACUUM", "OPTIMIZE", "SET ", "UNSET ", "ADD ", "DROP ", "FSCK", "CHANGE ")
"""How Delta's names of operations begin that leave the rows as they are."""


@dataclass(frozen=True)
class Commit:
    """An entry of the table's log.

    Attributes:
        version: its number.
        at: when, UTC.
        what: `RUN`, `ROLLBACK`, `VACUUM`, or what Delta calls it.
        changes_rows: whether the table may hold other rows than before.
        run_id: of a label run.
        status: of a label run, `done` or `partial`; "" where its mgc did not write that down.
        counts: of a label run, tracks by what was done with them; of a vacuum, `files` and `bytes`.
        model_id: of a label run; "" where its mgc did not write that down.
        features_id: likewise.
        target: the version that a rollback went back to, or the oldest that a vacuum kept.
    """

    version: int
    at: datetime
    what: str
    changes_rows: bool
    run_id: str = ""
    status: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    model_id: str = ""
    features_id: str = ""
    target: int | None = None


@dataclass(frozen=True)
class Vacuumed:
    """What a vacuum deleted, or would.

    Attributes:
        files: names below the table's folder.
        size_bytes: of them together.
        oldest: the oldest version that can be read for certain.
    """

    files: list[str]
    size_bytes: int
    oldest: int


def commits(table: LabelsTable) -> list[Commit]:
    """The table's log, newest first, as far back as Delta keeps it (30 days and 100 commits at least).

    Raises:
        LabelsError: there is no table.
        StorageError: the log cannot be read.
    """
    with explain(table.uri, "read the history of"):
        return [_commit(entry) for entry in table.delta.history()]


def changes(log: Sequence[Commit]) -> list[Commit]:
    """The commits that changed rows, newest first."""
    return [commit for commit in log if commit.changes_rows]


def given_up(log: Sequence[Commit]) -> int:
    """The oldest version whose files no vacuum of mgc has touched; those before it were given up."""
    return max((commit.target for commit in log if commit.what == VACUUM and commit.target is not None), default=0)


def find_version(text: str, log: Sequence[Commit], where: str) -> int:
    """The version meant by a number, by `latest`, or by `latest-N`: the table before its last N changes of rows.

    Args:
        text: as given.
        log: of the table.
        where: the table, for the message.

    Raises:
        LabelsError: there is no such version.
    """
    latest = log[0].version
    if text == "latest":
        return latest
    name, dash, number = text.partition("-")
    if name == "latest" and dash and number.isdecimal():
        versions = [commit.version for commit in changes(log)]
        if int(number) < len(versions):
            return versions[int(number)]
        raise LabelsError(f"{where}: there is no {text}; its log knows {len(versions)} changes of rows.")
    if not text.isdecimal():
        raise LabelsError(f"{text!r} is no version; give a number, latest, or latest-1 for the one before.")
    if int(text) > latest:
        raise LabelsError(f"{where}: there is no version {text}; the last one is {latest}.")
    if int(text) < log[-1].version:
        raise LabelsError(f"{where}: there is no version {text} any more; the log goes back to {log[-1].version}.")
    return int(text)


def open_version(uri: str, version: int) -> LabelsTable:
    """The table as of a version, all of whose files are there.

    Raises:
        LabelsError: its log entry or its files were cleaned away.
    """
    table = LabelsTable(uri, version)
    if missing := data_files(table) - _files_there(uri).keys():
        raise LabelsError(
            f"{redact(uri)}: version {version} cannot be read any more: {len(missing)} of its files were "
            "vacuumed away. `mgc labels history` marks those that a vacuum gave up."
        )
    return table


def data_files(table: LabelsTable) -> set[str]:
    """The names of the files that hold a version's rows."""
    return set(table.delta.get_add_actions(flatten=True).column("path").to_pylist())


def rollback(uri: str, version: int, log: Sequence[Commit], dry_run: bool = False) -> int:
    """Make the table equal to an earlier version, by a new commit; returns its version. No data is rewritten.

    A label run that was planned before is refused at its commit; the next one plans against what is there now.

    Args:
        uri: of the table.
        version: to go back to.
        log: as read before.
        dry_run: only see whether it can be done.

    Raises:
        LabelsError: the version is the table as it is, it was given up by a vacuum, or another commit came meanwhile.
            The table is as it was.
    """
    where = redact(uri)
    table = LabelsTable(uri)
    if table.version != log[0].version:
        raise _overtaken(where, ROLLBACK)
    if version < given_up(log):
        raise LabelsError(
            f"{where}: version {version} was given up by a vacuum; a rollback reaches back to {given_up(log)}. The "
            "table is as it was."
        )
    if data_files(open_version(uri, version)) == data_files(table):
        raise LabelsError(f"{where}: the table holds version {version} already; there is nothing to roll back.")
    if dry_run:
        return table.version
    attempt = uuid.uuid4().hex
    properties = CommitProperties(
        custom_metadata={_ROLLBACK: json.dumps({"to": version}), _ATTEMPT: attempt},
        app_transactions=[Transaction(APPLICATION, table.version + 1)],
        max_commit_retries=0,
    )
    failure: MgcError | None = None
    try:
        with explain(uri, "roll back"):
            table.delta.restore(version, commit_properties=properties)
    except DeltaError as error:
        failure = _failed(where, ROLLBACK, error)
    except StorageError as error:
        failure = error
    # The answer may have been lost, or another commit have taken our place.
    made = _version_of(uri, attempt)
    if made is not None:
        return made
    raise failure or _overtaken(where, ROLLBACK)


def vacuum(uri: str, keep: int, dry_run: bool = False) -> Vacuumed:
    """Delete the files that only versions before the last `keep` changes of rows need.

    A run that commits at this moment loses nothing. What it writes is in no commit yet, and such files are deleted
    only when they are `ORPHAN_HOURS` old; files that a commit has replaced go at once, but none that the last
    version needs, which is what a run reads. `_runs` and `_reports` are never looked into. If the run commits first,
    the vacuum deletes nothing and says so.

    Args:
        uri: of the table.
        keep: versions that stay readable, counted by changes of rows; at least 1.
        dry_run: only say which.

    Raises:
        LabelsError: there is no table, or another commit came meanwhile; nothing was deleted.
    """
    table = LabelsTable(uri)
    log = commits(table)
    changed = changes(log)[:keep]
    oldest = changed[-1].version if changed else log[0].version
    kept = [commit.version for commit in log if commit.version >= oldest and commit.what != VACUUM]
    # What an earlier vacuum gave up does not come back.
    oldest = max(oldest, given_up(log))
    sizes = _files_there(uri)
    # The first deletes what commits have replaced, the second also what no commit knows.
    passes: list[dict[str, Any]] = [{"retention_hours": 0}, {"retention_hours": ORPHAN_HOURS, "full": True}]
    doomed: set[str] = set()
    for options in passes:
        options |= {"keep_versions": kept, "enforce_retention_duration": False}
        with explain(uri, "vacuum"):
            # It also names what an earlier one has deleted.
            found = sizes.keys() & set(table.delta.vacuum(dry_run=True, **options)) - doomed
        if found and not dry_run:
            try:
                _delete(table, found, {"oldest": oldest, "keep": keep}, options)
            except LabelsError:
                if not doomed:
                    raise
                # Another commit came after the first: the leavings of killed writers can wait for the next vacuum.
                break
        doomed |= found
    return Vacuumed(sorted(doomed), sum(sizes[name] for name in doomed), oldest)


def _delete(table: LabelsTable, names: set[str], facts: dict[str, Any], options: dict[str, Any]) -> None:
    """One pass of a vacuum. The first of its two commits stands before anything is deleted."""
    attempt = uuid.uuid4().hex
    metadata = {_VACUUM: json.dumps(facts), _ATTEMPT: attempt}
    properties = CommitProperties(custom_metadata=metadata, max_commit_retries=0)
    try:
        with explain(table.uri, "vacuum"):
            table.delta.vacuum(dry_run=False, commit_properties=properties, **options)
    except (DeltaError, StorageError) as error:
        # Where all is deleted, only the second commit is missing: a run has taken its place, and nothing is amiss.
        if _version_of(table.uri, attempt) is None or names & _files_there(table.uri).keys():
            if isinstance(error, StorageError):
                raise
            raise _failed(redact(table.uri), VACUUM, error) from None


def _commit(entry: dict[str, Any]) -> Commit:
    operation = str(entry.get("operation", "unknown"))
    metrics = _mapping(entry.get("operationMetrics"))
    plain = Commit(
        version=int(entry["version"]),
        at=datetime.fromtimestamp(int(entry.get("timestamp", 0)) / 1000, UTC),
        what=operation.lower(),
        changes_rows=not operation.startswith(_SAME_ROWS),
        counts=_row_counts(metrics),
    )
    if operation.startswith("VACUUM"):
        found = {"files": metrics.get("numFilesToDelete"), "bytes": metrics.get("sizeOfDataToDelete")}
        counts = {name: int(value) for name, value in found.items() if value is not None}
        return replace(plain, what=VACUUM, counts=counts, target=_mapping(entry.get(_VACUUM)).get("oldest"))
    if operation == "RESTORE":
        target = str(_mapping(entry.get("operationParameters")).get("version"))
        return replace(plain, what=ROLLBACK, target=int(target) if target.isdecimal() else None)
    if "mgc.run_id" not in entry:
        return plain
    run = _mapping(entry.get(RUN_FACTS))
    counts = {name: value for name, value in _mapping(run.get("counts")).items() if isinstance(value, int)}
    return replace(
        plain,
        what=RUN,
        run_id=str(entry["mgc.run_id"]),
        status=str(run.get("status") or ""),
        counts=counts or plain.counts,
        model_id=str(run.get("model_id") or ""),
        features_id=str(run.get("features_id") or ""),
    )


def _row_counts(metrics: dict[str, Any]) -> dict[str, int]:
    """Rows by what was done with them, by Delta's own count: where mgc has not written down its own."""
    names = {
        "rows added": ("num_added_rows", "num_target_rows_inserted"),
        "rows updated": ("num_target_rows_updated", "num_updated_rows"),
        "rows deleted": ("num_target_rows_deleted", "num_deleted_rows"),
    }
    found = {shown: next((metrics[name] for name in each if metrics.get(name)), 0) for shown, each in names.items()}
    return {shown: int(count) for shown, count in found.items() if count}


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping from the log, which may be one, JSON text of one, or anything that another program wrote there."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _files_there(uri: str) -> dict[str, int]:
    """Names and sizes of the files right below the table's folder."""
    location = locate(uri)
    with explain(uri, "list"):
        infos = location.filesystem.get_file_info(pyarrow.fs.FileSelector(location.path))
    return {info.base_name: info.size for info in infos if info.is_file}


def _version_of(uri: str, attempt: str) -> int | None:
    """The version that an attempt to commit made, if it did."""
    with explain(uri, "read the history of"):
        history = LabelsTable(uri).delta.history(50)
    return next((int(entry["version"]) for entry in history if entry.get(_ATTEMPT) == attempt), None)


def _overtaken(where: str, what: str) -> LabelsError:
    return LabelsError(
        f"{where}: another commit came while this {what} was made ready; it has changed nothing. Look at "
        "`mgc labels history` and give the command again."
    )


def _failed(where: str, what: str, error: DeltaError) -> LabelsError:
    text = redact(" ".join(str(error).split()))[:300].rstrip(".")
    return LabelsError(
        f"{where}: the {what} failed, and the table's rows are as they were ({text}). Another commit may have come "
        "meanwhile: look at `mgc labels history` and give the command again."
    )
