"""The labels table: a Delta table in which one run is one commit.

A run first freezes its plan as Parquet under a key that is a hash of what it depends on, stages its rows beside it, and
enters them all in one commit. Submitted again after it was killed, it finds plan and rows under the same key and does
only what is missing. What readers see is the table before the run or after it.

Two runs from one version cannot both commit. delta-rs refuses a commit when another one with a transaction of the same
application came after the version that was planned against, so each commit carries `Transaction(APPLICATION, …)`. It
does not look at those before, and a creating commit that loses the race would enter itself as version 1: hence the
commit checks the version that it found, and creates without a retry. Not every store's conditional put is atomic: two
at the same moment may both be told that they made it (seen with Swift; the later replaces the earlier, so that the
table is that of one of them). Hence a commit looks in the end whether it is in the log.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from cluster.labels.overrides import OVERRIDES
from cluster.labels.plan import PLAN, Plan, Policy, counted, make_plan
from cluster.labels.rows import COMMITTED, FORMAT_KEY, Rows, rows_of
from cluster.labels.run_folder import RunFolder
from cluster.storage import files
from cluster.storage.failures import explain, redact
from cluster.storage.s3 import delta_options
from cluster.storage.uri import is_remote, locate
from cluster.tables.parquet import reading
from mgc import schema
from mgc.errors import LabelsError, StorageError

__all__ = ["APPLICATION", "PLAN", "RUN", "LabelsTable", "Plan", "Policy"]

APPLICATION: Final = "mgc-label"
"""Name of our transactions in the table's log."""

RUN: Final = "mgc.run"
"""Key of what a commit says of its run: JSON with `counts` and whatever the job measured."""

_ATTEMPT: Final = "mgc.attempt"


class LabelsTable:
    """The labels table under a URI, which may not exist yet: as it is now, until this object commits.

    Args:
        uri: its folder.
        version: an earlier one to read instead of the last.

    Raises:
        LabelsError: what lies there cannot be read, or there is no such version.
    """

    def __init__(self, uri: str, version: int | None = None) -> None:
        self.uri = uri
        self._where = redact(uri)
        self._table = self._open(version)

    def _open(self, version: int | None = None) -> DeltaTable | None:
        location, delta_uri = locate(self.uri), _delta_uri(self.uri)
        try:
            with explain(self.uri, "open the labels table at"):
                # Through our own client first: it tells a missing bucket and wrong credentials from a missing table.
                if not files.exists(self.uri):
                    return None
                if location.filesystem.get_file_info(location.path).type.name == "File":
                    raise LabelsError(f"{self._where} is a file; a labels table is a folder, named by --labels.")
                try:
                    table = DeltaTable(delta_uri, version, storage_options=delta_options(self.uri))
                except TableNotFoundError:
                    return None
        except DeltaError as error:
            raise LabelsError(
                f"{self._where}: the labels table cannot be opened ({_one_line(error)}); restore its _delta_log, or "
                "choose another --labels."
            ) from None
        fields = {field.name: field for field in table.schema().fields}
        missing = [name for name in schema.LABELS.names if name not in fields]
        first = fields.get(COMMITTED.names[0])
        version = int(first.metadata.get(FORMAT_KEY, 1)) if first else 1
        if version > schema.FORMAT_VERSION:
            raise LabelsError(
                f"{self._where}: format version {version}, this mgc reads up to {schema.FORMAT_VERSION}; upgrade mgc."
            )
        if missing:
            raise LabelsError(
                f"{self._where} is a Delta table, but no labels table of mgc: it lacks {', '.join(missing[:5])}; "
                "choose another --labels."
            )
        return table

    @property
    def exists(self) -> bool:
        """Whether a first run has been committed."""
        return self._table is not None

    @property
    def version(self) -> int:
        """Number of the last commit; -1 before the first."""
        return -1 if self._table is None else int(self._table.version())

    @property
    def _last_run(self) -> int | None:
        """The transaction of the last run, which other commits to the table (a vacuum, say) leave as it is."""
        return None if self._table is None else self._table.transaction_version(APPLICATION)

    @property
    def delta(self) -> DeltaTable:
        """The table as deltalake sees it.

        Raises:
            LabelsError: nothing was committed yet.
        """
        if self._table is None:
            raise LabelsError(
                f"{self._where}: there is no labels table here; `mgc label CATALOG --labels {self._where}` makes one."
            )
        return self._table

    def dataset(self) -> pads.Dataset:
        """The committed rows, those of removed tracks included.

        Raises:
            LabelsError: nothing was committed yet.
        """
        return self.delta.to_pyarrow_dataset()

    def _rows(self) -> pads.Dataset | pa.Table:
        return schema.LABELS.empty_table() if self._table is None else self.dataset()

    def plan(
        self,
        catalog: pads.Dataset | pa.Table,
        model_id: str,
        features_id: str,
        options: Mapping[str, Any],
        limit: int | None,
        *,
        at: datetime | None = None,
        policy: Policy | None = None,
    ) -> Plan:
        """Catalog minus what the table already holds for the same bytes, model and front end.

        A quarantined track is tried again when its bytes, the model or the front end change; one that failed for a
        passing reason also without that, when its `next_try_at` has come (`mgc.labeling.retries`). A track that was
        removed and is back counts as new. With a limit, only the first so many rows of the catalog are looked at, and
        nothing counts as removed. The plan of a run that was frozen and has not committed is taken as it is.

        Args:
            catalog: all rows as `schema.CATALOG`.
            model_id: the bundle's id.
            features_id: of its front end.
            options: whatever else changes what the run does, as JSON-ready values; becomes part of its key.
            limit: see above.
            at: the present, aware; by default that of the clock.
            policy: what is done beyond the new and the changed.

        Raises:
            LabelsError: the table holds a track more than once.
        """
        at, policy = at or datetime.now(UTC), policy or Policy()
        rows = self._rows()
        with reading(self.uri, "Restore a version from before, or choose another --labels.", LabelsError):
            plan = make_plan(
                catalog, rows, self._where, self.version, model_id, features_id, options, limit, at, policy
            )
        return self._as_frozen(plan)

    def _as_frozen(self, plan: Plan) -> Plan:
        """The plan as an earlier submission has frozen it: since then, more tracks may have become due."""
        frozen = self.run(plan).frozen()
        if frozen is None or frozen.equals(plan.todo):
            return plan
        counts = plan.counts | counted(frozen)
        counts["waiting"] += plan.counts["retry"] - counts["retry"]
        return replace(plan, todo=frozen, counts=counts)

    def run(self, plan: Plan) -> RunFolder:
        """What the run of a plan keeps until it is committed."""
        return RunFolder(self.uri, plan)

    def commit(self, plan: Plan, run_id: str, finished_at: datetime, about: Mapping[str, Any] | None = None) -> int:
        """Check the invariant and enter the run in one commit; returns the table's version.

        Args:
            plan: with a staged row for each of its tracks.
            run_id: for the table's history.
            finished_at: aware time, the `removed_at` of tracks that the catalog no longer has.
            about: what else the table's history is to say of the run, JSON-ready; `counts` are added.

        Raises:
            LabelsError: a planned track has no row, a staged file cannot be read, or another run has committed since
                the plan was made; the table is as it was.
            StorageError: the table cannot be written; it is as it was.
        """
        if plan.empty:
            return self.version
        self._refuse_overtaken(plan)
        attempt = uuid.uuid4().hex
        try:
            self._check_and_enter(plan, {"mgc.run_id": run_id, _ATTEMPT: attempt}, finished_at, dict(about or {}))
        except (LabelsError, StorageError):
            # Another run that has committed is the reason for much: it may also have swept our rows away.
            self._refuse_overtaken(plan)
            raise
        self.run(plan).sweep()
        self._table = self._open()
        version = _version_of(self._table, attempt)
        if version is None:
            raise self._overtaken(self.version)
        return version

    def _check_and_enter(self, plan: Plan, facts: dict[str, str], finished_at: datetime, about: dict[str, Any]) -> None:
        with self.run(plan).finished() as connection:
            [(finished, labeled)] = connection.sql(
                "SELECT count(*), count(*) FILTER (WHERE labeled) FROM finished"
            ).fetchall()
            if finished != plan.todo.num_rows:
                raise LabelsError(
                    f"{self._where}: {plan.todo.num_rows} tracks were planned, {finished} have a row; nothing was "
                    "committed. Submit the job again to finish them."
                )
            connection.register("removed", plan.removed)
            connection.register("corrected", plan.corrected)
            connection.register("labels", self._rows())
            connection.register("overriding", self._overriding(plan))
            overridden = "SELECT count(*) FROM overriding SEMI JOIN todo USING (track_id)"
            [(corrections,)] = connection.sql(overridden).fetchall()
            about["counts"] = plan.counts | {"labeled": labeled, "quarantined": finished - labeled}
            about["counts"]["overridden"] = corrections
            facts = facts | {RUN: json.dumps(about)}
            changing = plan.todo.num_rows > plan.counts["new"] or plan.removed.num_rows or plan.corrected.num_rows
            if not changing:
                # A track that was removed and is back counts as new, and has a row.
                back = connection.sql("SELECT count(*) FROM labels SEMI JOIN todo USING (track_id)")
                [(changing,)] = back.fetchall()
            at = {"at": finished_at.astimezone(UTC).isoformat()} if plan.removed.num_rows else {}
            rows = Rows(connection.sql(rows_of(plan), params=at))
            try:
                with explain(self.uri, "commit labels to"):
                    self._enter(rows.reader(), facts, plan, blind=not changing)
            except (DeltaError, StorageError) as error:
                if rows.fault is not None:
                    raise rows.fault from None
                # Its answer may have been lost, or what comes after it have failed.
                if _version_of(self._open(), facts[_ATTEMPT]) is not None:
                    return
                if isinstance(error, StorageError):
                    raise
                raise LabelsError(
                    f"{self._where}: the commit failed and the table is as it was ({_one_line(error)}); submit the job "
                    "again."
                ) from None

    def _overriding(self, plan: Plan) -> pa.Table:
        """The corrections that hold: those of the file or, without one, those that the table has."""
        if plan.policy.overrides is not None:
            return plan.policy.overrides.cast(OVERRIDES)
        rows = self._rows()
        # Arrow passes over what has none by the files' statistics.
        corrected = rows.filter(pc.field("override_by").is_valid())
        columns = ["track_id", "genre_top", "override_by", "override_reason"]
        table = corrected.select(columns) if isinstance(corrected, pa.Table) else corrected.to_table(columns=columns)
        return table.rename_columns(OVERRIDES.names).cast(OVERRIDES)

    def _enter(self, rows: pa.RecordBatchReader, facts: dict[str, str], plan: Plan, blind: bool) -> None:
        """The commit. `blind`: no row is in the table yet, so that what is there need not be read."""
        properties = CommitProperties(
            custom_metadata=facts,
            app_transactions=[Transaction(APPLICATION, plan.version + 1)],
            # After a creation that lost the race a retry would append: two rows a track.
            max_commit_retries=0 if self._table is None else None,
        )
        if self._table is None:
            options = delta_options(self.uri)
            write_deltalake(
                _delta_uri(self.uri), rows, name="mgc labels", storage_options=options, commit_properties=properties
            )
        elif blind:
            write_deltalake(self._table, rows, mode="append", commit_properties=properties)
        else:
            merger = self._table.merge(
                rows,
                "new.track_id = old.track_id",
                source_alias="new",
                target_alias="old",
                commit_properties=properties,
            )
            if plan.policy.gone == "prune":
                merger = merger.when_matched_delete("new.removed_at IS NOT NULL")
            merger.when_matched_update_all().when_not_matched_insert_all().execute()

    def _refuse_overtaken(self, plan: Plan) -> None:
        latest = LabelsTable(self.uri)
        if plan.version != self.version or latest._last_run != self._last_run:
            raise self._overtaken(latest.version)

    def _overtaken(self, version: int) -> LabelsError:
        return LabelsError(
            f"{self._where}: another run has committed version {version} since this one was planned; nothing of this "
            "one was entered. Submit it again: it plans anew."
        )


def _version_of(table: DeltaTable | None, attempt: str) -> int | None:
    """The version that an attempt to commit made, if it did."""
    history = [] if table is None else table.history(50)
    return next((int(entry["version"]) for entry in history if entry.get(_ATTEMPT) == attempt), None)


def _delta_uri(uri: str) -> str:
    """The place as deltalake wants it named, which for some characters fails, or opens another place without a word."""
    location = locate(uri)
    name = location.uri if is_remote(uri) else location.path
    odd = re.search(r"[%#?\[\]\\^|\x00-\x1f\ud800-\udfff]", name)
    if odd:
        raise LabelsError(
            f"{redact(uri)}: a Delta table cannot lie in a folder with {odd[0]!r} in its name; choose another --labels."
        )
    return name


def _one_line(error: Exception) -> str:
    return redact(" ".join(str(error).split()))[:300].rstrip(".")
