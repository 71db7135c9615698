"""Vacuum: delete the files that only old versions of the labels table need."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from deltalake import CommitProperties
from deltalake.exceptions import DeltaError

from cluster.labels.history import (
    VACUUM,
    Commit,
    changes,
    commits,
    failed,
    files_there,
    given_up,
    made_by,
)
from cluster.labels.log import ATTEMPT, VACUUM_FACTS
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.conditional_put import require_conditional_put
from cluster.storage.failures import explain
from cluster.storage.uri import Uri
from mgc.errors import LabelsError, StorageError

ORPHAN_AGE: Final = timedelta(days=7)
"""Age at which a vacuum deletes data files that no commit names. Killed writers leave them; no commit takes so long."""

VACUUM_AGE: Final = timedelta(days=7)
"""Age at which a vacuum deletes files that a commit replaced, unless it is told another."""


CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""How far this machine's clock may be ahead of the store's. delta-rs counts ages in whole hours."""


_DATA_FILE: Final = re.compile(r"part-\d{5}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b[^/]*\.parquet")
"""Name of a data file, as writers of Delta tables give it; directly below the table's folder."""


@dataclass(frozen=True)
class Spared:
    """Files that a vacuum leaves because they are young.

    Attributes:
        files: number of files.
        until: time after which a vacuum deletes all of them.
    """

    files: int
    until: datetime


@dataclass(frozen=True)
class Vacuumed:
    """Files that a vacuum deleted, or would delete.

    Attributes:
        files: names of the files below the table's folder.
        size_bytes: total size of the files.
        oldest: oldest version that is certain to stay readable.
        spared: files that are only too young; None if there are none.
        strangers: old files in the table's folder, or below it, that no writer of the table has written. Because of
            them it does not look for files that no commit names.
    """

    files: list[str]
    size_bytes: int
    oldest: int
    spared: Spared | None = None
    strangers: list[str] = field(default_factory=list)


def vacuum(uri: Uri, keep: int, older_than: timedelta = VACUUM_AGE, dry_run: bool = False) -> Vacuumed:
    """Delete the files that only versions before the last `keep` changes of rows need.

    A version that was the newest less than `older_than` ago also keeps its files, so a rollback to it stays possible.

    No clock is believed. A commit is as young as its writer's clock or the store's says, whichever is younger, and no
    older than the commits before it.

    A run in progress loses nothing. No commit names the files that it writes, and a vacuum deletes such files only when
    they are `ORPHAN_AGE` old. It never deletes files of the newest version, which a run reads. A vacuum ignores `_runs`
    and `_reports`. If the run commits first, the vacuum deletes nothing and fails.

    Nothing but data files of Delta tables is deleted. delta-rs would take any file for one that no commit names, such
    as music in a folder below the table's. Where it would, only what commits name is deleted.

    Args:
        uri: folder of the labels table.
        keep: number of versions that stay readable, counted by changes of rows; at least 1.
        older_than: age of the youngest files to delete, at least zero: the time since the version after the last one
            that needs them.
        dry_run: whether only to find the files, and delete none.

    Raises:
        LabelsError: there is no table, another commit came in the meantime, or this machine's clock is ahead of the
            store's. Nothing was deleted.
    """
    table = LabelsTable(uri)
    log = commits(table)
    if not dry_run:
        require_conditional_put(uri)
        _refuse_clock_ahead(uri)
    times = _times(uri, log)
    # Never keep a version that an earlier vacuum gave up.
    asked = max(_oldest_of(log, keep), given_up(log))
    oldest = max(min(asked, _newest_at(log, times, datetime.now(UTC) - older_than)), given_up(log))
    there = files_there(uri)
    # The first pass deletes files that commits replaced, the second also files that no commit names.
    first, second = (
        _pass(log, oldest, older_than, full=False),
        _pass(log, oldest, max(older_than, ORPHAN_AGE), full=True),
    )
    strangers = sorted(name for name in _dry_run(table, second) if not _DATA_FILE.fullmatch(name))
    doomed: set[str] = set()
    for options in [first] if strangers else [first, second]:
        found = _dry_run(table, options) & there.keys() - doomed
        if found and not dry_run:
            try:
                _delete(table, found, {"oldest": oldest, "keep": keep}, options)
            except LabelsError:
                if not doomed:
                    raise
                # Another commit came after the first pass. Files left by killed writers can wait for the next vacuum.
                break
        doomed |= found
    replaced = _dry_run(table, _pass(log, asked, timedelta(), full=False)) & there.keys() - doomed
    orphans = _dry_run(table, _pass(log, asked, timedelta(), full=True)) & there.keys() - doomed - replaced
    orphans = set() if strangers else {name for name in orphans if _DATA_FILE.fullmatch(name)}
    ripe = [there[name].mtime + max(older_than, ORPHAN_AGE) for name in orphans]
    # What is replaced was replaced by the last change of rows or before.
    ripe += [times[changes(log)[0].version] + older_than] if replaced else []
    spared = Spared(len(replaced | orphans), max(ripe)) if ripe else None
    return Vacuumed(sorted(doomed), sum(there[name].size for name in doomed), oldest, spared, strangers)


def _oldest_of(log: Sequence[Commit], keep: int) -> int:
    """Return the oldest of the last `keep` versions, counted by changes of rows."""
    changed = changes(log)[:keep]
    return changed[-1].version if changed else log[0].version


def _times(uri: Uri, log: Sequence[Commit]) -> dict[int, datetime]:
    """Return the time of each commit by version: that of its writer or that of its entry in the store, if younger.

    A copy of a table has younger entries, so a vacuum of it spares more.
    """
    there = files_there(uri / "_delta_log")
    times, latest = {}, datetime.min.replace(tzinfo=UTC)
    for commit in reversed(log):
        entry = there.get(f"{commit.version:020}.json")
        # A commit is no older than the commits before it.
        latest = max(latest, commit.at, *([] if entry is None else [entry.mtime]))
        times[commit.version] = latest
    return times


def _refuse_clock_ahead(uri: Uri) -> None:
    """Raise LabelsError if this machine's clock is ahead of the store's: every file would seem old to it."""
    probe = uri / f"_probe-{uuid.uuid4().hex}"
    try:
        files.write_bytes(probe, b"probe")
        with explain(probe, "look up"):
            written = uri.filesystem.get_file_info(probe.path).mtime
    finally:
        files.delete(probe)
    ahead = datetime.now(UTC) - written
    if ahead > CLOCK_TOLERANCE:
        raise LabelsError(
            f"{uri}: this machine's clock is {ahead // timedelta(hours=1):,} hours ahead of the store's, so a vacuum "
            "would take young files for old ones. Nothing was deleted. Set the clock and run the command again."
        )


def _newest_at(log: Sequence[Commit], times: Mapping[int, datetime], moment: datetime) -> int:
    """Return the version that was the newest at a moment, or the oldest of the log."""
    newest = log[-1].version
    for commit in reversed(changes(log)):
        if times[commit.version] > moment:
            break
        newest = commit.version
    return newest


class _Pass(TypedDict):
    """Arguments of delta-rs for one pass of a vacuum."""

    retention_hours: int
    full: bool
    keep_versions: list[int]
    enforce_retention_duration: bool


def _pass(log: Sequence[Commit], oldest: int, age: timedelta, full: bool) -> _Pass:
    kept = [commit.version for commit in log if commit.version >= oldest and commit.what != VACUUM]
    # delta-rs counts whole hours. Rounding up spares files.
    hours = -(-age // timedelta(hours=1))
    return _Pass(retention_hours=hours, full=full, keep_versions=kept, enforce_retention_duration=False)


def _dry_run(table: LabelsTable, options: _Pass) -> set[str]:
    """Return the files that a pass would delete, and some that an earlier vacuum deleted."""
    with explain(table.uri, "vacuum"):
        return set(table.delta.vacuum(dry_run=True, **options))


def _delete(table: LabelsTable, names: set[str], facts: Mapping[str, int], options: _Pass) -> None:
    """Run one pass of a vacuum. It makes two commits, the first of them before it deletes anything."""
    attempt = uuid.uuid4().hex
    metadata = {VACUUM_FACTS: json.dumps(facts), ATTEMPT: attempt}
    properties = CommitProperties(custom_metadata=metadata, max_commit_retries=0)
    try:
        with explain(table.uri, "vacuum"):
            table.delta.vacuum(dry_run=False, commit_properties=properties, **options)
    except (DeltaError, StorageError) as error:
        # If all files are gone, only the second commit is missing, because a run took its version. Nothing is wrong.
        if made_by(table.uri, attempt) is None or names & files_there(table.uri).keys():
            if isinstance(error, StorageError):
                raise
            raise failed(table.uri, VACUUM, error) from None
