"""The labels table's past: its commits, the versions that can still be read, and rollback.

A version is a number in Delta's log. Some versions change rows (a label run, a rollback); others are maintenance (a
vacuum makes two). `latest-1` is the table before its last change of rows, whatever maintenance came since.

Rollback and vacuum (`cluster.labels.vacuum`) may run at the same time, and beside a label run:

- A rollback carries the application transaction of the label job. A run planned before it is refused at its commit. If
  a run commits while the rollback is under way, delta-rs refuses one of the two.
- Rollback and vacuum commit directly after the version that they looked at, or not at all (`max_commit_retries=0`).
  Before a vacuum deletes anything, its first commit records which versions it keeps. A rollback never goes to a version
  that a vacuum gave up.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import pyarrow.compute as pc
import pyarrow.fs
from deltalake import CommitProperties, Transaction
from deltalake.exceptions import DeltaError

from cluster.labels.beside.holds import confirm_hold, drop_hold, find_undone, settle_holds, write_hold
from cluster.labels.beside.seals import find_lost
from cluster.labels.log import (
    APPLICATION,
    ATTEMPT,
    ROLLBACK_FACTS,
    RUN_FACTS,
    RUN_ID,
    VACUUM_FACTS,
    data_files,
    version_of,
)
from cluster.labels.runs.table import RunTable
from cluster.labels.table import LabelsTable
from cluster.labels.verdicts import FORMER_REASONS
from cluster.storage.conditional_put import require_conditional_put
from cluster.storage.failures import explain, redact
from cluster.storage.notice import notice
from cluster.storage.uri import Uri
from mgc.errors import LabelsError, MgcError, StorageError
from mgc.units import format_count

RUN: Final = "label run"
ROLLBACK: Final = "rollback"
VACUUM: Final = "vacuum"

_SAME_ROWS: Final = ("VACUUM", "OPTIMIZE", "SET ", "UNSET ", "ADD ", "DROP ", "FSCK", "CHANGE ")
"""Prefixes of the names of Delta's operations that do not change rows."""


@dataclass(frozen=True)
class Commit:
    """An entry of the table's log.

    Attributes:
        version: the version that the commit made.
        at: time of the commit, in UTC.
        what: `RUN`, `ROLLBACK`, `VACUUM`, or Delta's name of the operation.
        changes_rows: whether the commit may change rows.
        run_id: key of a label run.
        status: `done` or `partial` for a label run; "" where it is not recorded.
        counts: tracks by what a label run did with them; `held` tracks of a rollback; `files` and `bytes` of a vacuum.
        model_id: id of a label run's bundle; "" where it is not recorded.
        features_id: id of its front end; "" where it is not recorded.
        bundle: name or URI by which the bundle was opened; "" where it is not recorded.
        taxonomy: name or URI of the genres that a person chose for it; "" for its own.
        bundle_id: id of the bundle with its own genres, if a person chose others; else "".
        target: version that a rollback went back to, or the oldest that a vacuum kept.
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
    bundle: str = ""
    taxonomy: str = ""
    bundle_id: str = ""
    target: int | None = None


def commits(table: LabelsTable) -> list[Commit]:
    """Return the table's log, newest first, as far back as Delta keeps it (at least 30 days and 100 commits).

    Raises:
        LabelsError: there is no table.
        StorageError: the log cannot be read.
    """
    with explain(table.uri, "read the history of"):
        return [_commit(entry) for entry in table.delta.history()]


@dataclass(frozen=True)
class LabeledBy:
    """The bundle that labelled a table.

    Attributes:
        model_id: its id.
        place: name or URI by which it was opened; "" where it is not recorded.
        taxonomy: name or URI of the genres that a person chose for it; "" for its own.
        bundle_id: its id with its own genres, if a person chose others; else "".
    """

    model_id: str
    place: str = ""
    taxonomy: str = ""
    bundle_id: str = ""


def find_labeler(table: RunTable) -> LabeledBy | None:
    """Return the bundle of the last run whose rows the table has; None if there is no table or no labelled row.

    Raises:
        StorageError: the log or the rows cannot be read.
    """
    if not table.exists:
        return None
    version = table.version
    with explain(table.uri, "read the history of"):
        for commit in map(_commit, table.delta.history()):
            # A rollback undid the runs after the version that it went back to.
            if commit.version <= version:
                if commit.what == ROLLBACK and commit.target is not None:
                    version = commit.target
                elif commit.what == RUN and commit.model_id:
                    return LabeledBy(commit.model_id, commit.bundle, commit.taxonomy, commit.bundle_id)
        # The log is from an older mgc, or Delta has cleaned it up.
        counts: Counter[str] = Counter()
        for batch in table.dataset().to_batches(columns=["model_id"]):
            for found in pc.value_counts(batch.column("model_id").drop_null()):
                counts[found["values"].as_py()] += found["counts"].as_py()
    return LabeledBy(counts.most_common(1)[0][0]) if counts else None


def changes(log: Sequence[Commit]) -> list[Commit]:
    """Return the commits that changed rows, newest first."""
    return [commit for commit in log if commit.changes_rows]


def given_up(log: Sequence[Commit]) -> int:
    """Return the oldest version that no vacuum of mgc gave up."""
    return max((commit.target for commit in log if commit.what == VACUUM and commit.target is not None), default=0)


def find_version(text: str, log: Sequence[Commit], table_uri: Uri) -> int:
    """Return the version that a text names.

    Args:
        text: a number, `latest`, or `latest-N` for the table before its last N changes of rows.
        log: the table's log, newest first.
        table_uri: folder of the labels table, for messages.

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
        raise LabelsError(
            f"{table_uri}: there is no {text}; the log has {format_count(len(versions), 'change')} of rows, so the "
            f"oldest is latest-{len(versions) - 1}."
        )
    if not text.isdecimal():
        raise LabelsError(f"{text!r} is not a version; give a number, latest, or latest-1 for the one before.")
    if int(text) > latest:
        raise LabelsError(f"{table_uri}: there is no version {text}; the newest is {latest}.")
    if int(text) < log[-1].version:
        raise LabelsError(f"{table_uri}: version {text} is gone; the log goes back to {log[-1].version}.")
    return int(text)


def open_version(uri: Uri, version: int) -> LabelsTable:
    """Open a version of the table whose files are all there.

    Raises:
        LabelsError: its log entry or some of its files were deleted.
    """
    table = LabelsTable(uri, version)
    if missing := data_files(table.delta) - files_there(uri).keys():
        raise LabelsError(
            f"{uri}: version {version} can no longer be read: a vacuum deleted {len(missing)} of its files. "
            "`mgc labels history` marks the versions that a vacuum gave up."
        )
    return table


def rollback(uri: Uri, version: int, log: Sequence[Commit], dry_run: bool = False) -> int:
    """Make the table equal to an earlier version, by a new commit. Returns the version of that commit.

    This rewrites no data. A label run planned before the rollback is refused at its commit. The next run plans against
    the restored table, and leaves out what the rollback undid (`cluster.labels.beside.holds`).

    Args:
        uri: folder of the labels table.
        version: version to go back to.
        log: the table's log, newest first, as read before.
        dry_run: whether only to check that the rollback is possible.

    Raises:
        LabelsError: the table already equals that version, a vacuum gave the version up, the bytes of one of its files
            have changed, or another commit came in the meantime. The table is unchanged.
    """
    table = LabelsTable(uri)
    if table.version != log[0].version:
        raise _overtaken(uri, ROLLBACK)
    if version < given_up(log):
        raise LabelsError(
            f"{uri}: a vacuum gave up version {version}; a rollback can go back to {given_up(log)}. The table is "
            "unchanged."
        )
    restored = open_version(uri, version)
    if data_files(restored.delta) == data_files(table.delta):
        raise LabelsError(f"{uri}: the table already equals version {version}; there is nothing to roll back.")
    restored.check_files()
    for name in find_lost(uri, data_files(restored.delta)):
        raise LabelsError(
            f"{uri / name}: this file of version {version} cannot be read. Restore it from a copy, or go back to "
            "another version. The table is unchanged."
        )
    if dry_run:
        return table.version
    require_conditional_put(uri)
    attempt, making = uuid.uuid4().hex, table.version + 1
    settle_holds(uri, table.delta.history)
    # A rollback is the remedy for damage in the version that it leaves. What was in the lost files cannot be held.
    lost = find_lost(uri, data_files(table.delta))
    if lost:
        notice(
            f"{uri}: the rows of {len(lost)} file(s) of version {table.version} are lost. The next run may enter again "
            "what these files held."
        )
    undone = find_undone(table.dataset(data_files(table.delta) - lost), restored.dataset(), whole=not lost)
    write_hold(uri, making, attempt, undone)
    facts = {"to": version, "held": pc.sum(pc.invert(undone["restored"])).as_py() or 0}
    properties = CommitProperties(
        custom_metadata={ROLLBACK_FACTS: json.dumps(facts), ATTEMPT: attempt},
        app_transactions=[Transaction(APPLICATION, making)],
        max_commit_retries=0,
    )
    failure: MgcError | None = None
    try:
        with explain(uri, "roll back"):
            table.delta.restore(version, commit_properties=properties)
    except DeltaError as error:
        failure = failed(uri, ROLLBACK, error)
    except StorageError as error:
        failure = error
    # The store's answer may have been lost, or another commit may have replaced ours.
    made = made_by(uri, attempt)
    if made is not None:
        # If this is killed first, the attempt in the log says as much, and a later commit moves the file.
        confirm_hold(uri, making, attempt)
        return made
    drop_hold(uri, making, attempt)
    raise failure or _overtaken(uri, ROLLBACK)


def _commit(entry: Mapping[str, object]) -> Commit:
    operation = str(entry.get("operation", "unknown"))
    metrics = _mapping(entry.get("operationMetrics"))
    plain = Commit(
        version=_whole(entry["version"]),
        at=datetime.fromtimestamp(_whole(entry.get("timestamp")) / 1000, UTC),
        what=operation.lower(),
        changes_rows=not operation.startswith(_SAME_ROWS),
        counts=_row_counts(metrics),
    )
    if operation.startswith("VACUUM"):
        found = {"files": metrics.get("numFilesToDelete"), "bytes": metrics.get("sizeOfDataToDelete")}
        counts = {name: _whole(value) for name, value in found.items() if value is not None}
        oldest = _mapping(entry.get(VACUUM_FACTS)).get("oldest")
        return replace(plain, what=VACUUM, counts=counts, target=oldest if isinstance(oldest, int) else None)
    if operation == "RESTORE":
        target = str(_mapping(entry.get("operationParameters")).get("version"))
        held = _mapping(entry.get(ROLLBACK_FACTS)).get("held")
        counts = {"held": held} if isinstance(held, int) else plain.counts
        return replace(plain, what=ROLLBACK, counts=counts, target=int(target) if target.isdecimal() else None)
    if RUN_ID not in entry:
        return plain
    run = _mapping(entry.get(RUN_FACTS))
    counted = _mapping(run.get("counts")).items()
    counts = {FORMER_REASONS.get(name, name): value for name, value in counted if isinstance(value, int)}
    return replace(
        plain,
        what=RUN,
        run_id=str(entry[RUN_ID]),
        status=str(run.get("status") or ""),
        counts=counts or plain.counts,
        model_id=str(run.get("model_id") or ""),
        features_id=str(run.get("features_id") or ""),
        bundle=str(run.get("bundle") or ""),
        taxonomy=str(run.get("taxonomy") or ""),
        bundle_id=str(run.get("bundle_id") or ""),
    )


def _row_counts(metrics: Mapping[str, object]) -> dict[str, int]:
    """Return Delta's own counts of rows, for commits in which mgc recorded none."""
    names = {
        "rows added": ("num_added_rows", "num_target_rows_inserted"),
        "rows updated": ("num_target_rows_updated", "num_updated_rows"),
        "rows deleted": ("num_target_rows_deleted", "num_deleted_rows"),
    }
    found = {shown: next((metrics[name] for name in each if metrics.get(name)), 0) for shown, each in names.items()}
    return {shown: _whole(count) for shown, count in found.items() if count}


def _whole(value: object) -> int:
    """Return a whole number from the log, which holds a number or its text."""
    return int(value) if isinstance(value, int | float | str) else 0


def _mapping(value: object) -> dict[str, object]:
    """Return a mapping from the log, which holds a mapping or its JSON text. Returns {} for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def files_there(uri: Uri) -> dict[str, pyarrow.fs.FileInfo]:
    """Return the files directly below the table's folder, by name."""
    with explain(uri, "list"):
        infos = uri.filesystem.get_file_info(pyarrow.fs.FileSelector(uri.path))
    return {info.base_name: info for info in infos if info.is_file}


def made_by(uri: Uri, attempt: str) -> int | None:
    """Return the version that an attempt to commit made, or None if it made none."""
    with explain(uri, "read the history of"):
        return version_of(LabelsTable(uri).delta, attempt)


def _overtaken(uri: Uri, what: str) -> LabelsError:
    return LabelsError(
        f"{uri}: this {what} changed nothing, because another commit came while it was being prepared. Look at "
        "`mgc labels history` and run the command again."
    )


def failed(uri: Uri, what: str, error: DeltaError) -> LabelsError:
    """Return the error for a commit that delta-rs refused."""
    text = redact(" ".join(str(error).split()))[:300].rstrip(".")
    return LabelsError(
        f"{uri}: the {what} failed and the table's rows are unchanged ({text}). Another commit may have come in the "
        "meantime: look at `mgc labels history` and run the command again."
    )
