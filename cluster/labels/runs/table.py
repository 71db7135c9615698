"""A table of runs: a Delta table in which each run is one commit.

A run freezes its plan as Parquet under a key that is a hash of what the run depends on. It stages its rows beside the
plan and enters them all in one commit. A killed run that is submitted again finds its plan and rows under the same key
and labels only what is missing. Readers see the table before the run or after it, never in between.

Two runs planned from the same version cannot both commit:

- Every commit carries `Transaction(APPLICATION, ...)`. delta-rs refuses a commit if another one with a transaction of
  the same application came after the version that was planned against.
- delta-rs does not look at transactions before that version, and a commit that loses the race to create the table would
  enter itself as version 1. So the commit checks the version that it finds, and creates a table without retries.
- A store without conditional puts is refused (`cluster.storage.conditional_put`).
- Some stores' conditional put is not atomic: two writers at the same moment may both be told that they succeeded. This
  was seen with Swift, where the later one replaces the earlier one's log entry. So the commit finally checks whether it
  is in the log.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from cluster.labels import log
from cluster.labels.beside.run_folder import RunFolder
from cluster.labels.beside.seals import check_seals, write_seals
from cluster.labels.counts import CommittedRun, RunCounts
from cluster.labels.plan import Plan, PlanRequest, make_plan
from cluster.labels.policy import Policy
from cluster.labels.rows import FIND_KEPT, Rows, rows_of
from cluster.labels.runs.format import Format
from cluster.labels.runs.opening import open_table, shorten
from cluster.storage.conditional_put import require_conditional_put
from cluster.storage.failures import explain
from cluster.storage.uri import Uri
from cluster.tables.parquet import reading
from mgc.errors import LabelsError, StorageError
from mgc.units import format_count


class RunTable:
    """The table under a URI. There may be no table yet. It is read once, and again after a commit.

    Args:
        uri: the table's folder.
        version: version to read; the newest by default.

    Attributes:
        form: the table's format.
        uri: the table's folder.

    Raises:
        LabelsError: the table cannot be read, or there is no such version.
    """

    form: ClassVar[Format]

    def __init__(self, uri: Uri, version: int | None = None) -> None:
        self.uri = uri
        self._table = self._open(version)
        self._read: tuple[DeltaTable, int, pads.Dataset] | None = None

    def _open(self, version: int | None = None) -> DeltaTable | None:
        return open_table(self.uri, self.form, version)

    @property
    def exists(self) -> bool:
        """Whether there is a table."""
        return self._table is not None

    @property
    def version(self) -> int:
        """Version of the table that was read; -1 if there is no table."""
        return -1 if self._table is None else int(self._table.version())

    @property
    def base(self) -> int:
        """Number of the last run or rollback; -1 if there is no table. Other commits (a vacuum, say) do not change it.

        Plans are named by it, so that a vacuum does not make a run forget what it staged.
        """
        return self.version if self._last_run is None else self._last_run

    @property
    def _last_run(self) -> int | None:
        """The transaction of the last run. Other commits (a vacuum, say) do not change it."""
        return None if self._table is None else self._table.transaction_version(log.APPLICATION)

    @property
    def delta(self) -> DeltaTable:
        """The table for deltalake.

        Raises:
            LabelsError: there is no table yet.
        """
        if self._table is None:
            raise LabelsError(
                f"{self.uri}: there is no {self.form.name} table here; `{self.form.command} {self.uri}` makes one."
            )
        return self._table

    def dataset(self, names: Collection[str] | None = None) -> pads.Dataset:
        """Return the committed rows, including those of removed tracks.

        Args:
            names: names of the data files to read; None for all.

        Raises:
            LabelsError: there is no table yet.
        """
        if self._read is None or self._read[:2] != (self.delta, self.version):
            # Takes the longer the more files there are, and a run asks for it several times.
            self._read = self.delta, self.version, self.delta.to_pyarrow_dataset()
        *_, rows = self._read
        if names is not None:
            fragments = [each for each in rows.get_fragments() if each.path in names]
            rows = pads.FileSystemDataset(fragments, rows.schema, rows.format, rows.filesystem)
        # A table from before these columns has none of them in its files.
        added = [field for field in self.form.added if field.name not in rows.schema.names]
        return rows.replace_schema(pa.schema([*rows.schema, *added])) if added else rows

    def renew(self) -> None:
        """Open the same version with new credentials. deltalake keeps those of the first time, which may expire."""
        if self._table is not None:
            self._table = self._open(self.version)

    def _rows(self) -> pads.Dataset | pa.Table:
        return self.form.columns.empty_table() if self._table is None else self.dataset()

    def plan(self, catalog: pads.Dataset | pa.Table, request: PlanRequest) -> Plan:
        """Return the catalog minus what the table already holds for the same bytes, model and front end.

        A quarantined track is tried again when its bytes, the model or the front end change. If its error may pass, it
        is also tried again once its `next_try_at` has come (`mgc.labeling.retries`). A removed track that is back
        counts as new. If an earlier submission froze the same plan and did not commit, this returns that plan.

        Args:
            catalog: rows of `schema.CATALOG`.
            request: request for the plan.

        Raises:
            LabelsError: the table holds a track more than once.
        """
        rows = self._rows()
        with self.reading_beside_catalog():
            plan = make_plan(catalog, rows, str(self.uri), self.version, self.base, request, self._held(request.policy))
        frozen = self.run(plan).frozen()
        return plan if frozen is None or frozen.equals(plan.todo) else plan.frozen_as(frozen)

    def reading_beside_catalog(self) -> AbstractContextManager[None]:
        """Turn what DuckDB raises, in a query of this table and a catalog, into LabelsError or StorageError."""
        remedy = "If the catalog was written at this moment, run again. Otherwise restore the one that is damaged."
        return reading(f"{self.uri} or the catalog", remedy, LabelsError)

    def _held(self, policy: Policy) -> pa.Table | None:
        """Return what the plan has to leave out; None for nothing."""
        return None

    def run(self, plan: Plan) -> RunFolder:
        """Return the folder that keeps the run of a plan until it is committed."""
        return RunFolder(self.uri, plan, self.form)

    def commit(
        self, plan: Plan, run_id: str, finished_at: datetime, about: Mapping[str, object] | None = None
    ) -> CommittedRun:
        """Check that every planned track has one row, and enter the run in one commit.

        Afterwards this object holds the newest table, which may include other commits made in the meantime.

        Args:
            plan: the run's plan; each of its tracks has a staged row.
            run_id: the run's name in the table's history.
            finished_at: aware time; the `removed_at` of tracks that left the catalog.
            about: JSON-ready values to keep with the run in the table's history, besides its `counts`.

        Raises:
            LabelsError: a planned track has no row, a staged file cannot be read, the bytes of a data file have
                changed, or another run has committed since the plan was made. The table is unchanged.
            StorageError: the table cannot be written. It is unchanged.
        """
        if plan.empty:
            return CommittedRun(self.version, RunCounts(**plan.counts.to_json()))
        require_conditional_put(self.uri)
        self.refuse_overtaken(plan)
        self._prepare()
        self.check_files()
        attempt = uuid.uuid4().hex
        facts = {log.RUN_ID: run_id, log.ATTEMPT: attempt} | ({log.RESUMED: "true"} if plan.policy.resume else {})
        try:
            counts = self._check_and_enter(plan, facts, finished_at, about or {})
        except (LabelsError, StorageError):
            # Many errors come from another run that has committed. It may also have deleted our rows.
            self.refuse_overtaken(plan)
            raise
        self.run(plan).sweep()
        latest = self._open()
        version = log.version_of(latest, attempt)
        if version is None:
            raise self._overtaken(-1 if latest is None else int(latest.version()))
        self._table = latest
        write_seals(self.uri, log.data_files(self.delta))
        self._settle(plan, version)
        return CommittedRun(version, counts)

    def check_files(self) -> None:
        """Compare the data files with their seals, so that damage does not spread.

        Raises:
            LabelsError: the bytes of a file have changed.
        """
        if self._table is not None:
            check_seals(self.uri, log.data_files(self._table))

    def _prepare(self) -> None:
        """Make the table ready for a commit."""

    def _settle(self, plan: Plan, version: int) -> None:
        """Settle what the commit of a plan leaves behind, which made this version."""

    def _check_and_enter(
        self, plan: Plan, facts: Mapping[str, str], finished_at: datetime, about: Mapping[str, object]
    ) -> RunCounts:
        with self.joined(plan) as connection:
            counts = self._count(connection, plan)
            facts = {**facts, log.RUN_FACTS: json.dumps({**about, "counts": counts.to_json()})}
            blind = plan.fresh and not (plan.removed.num_rows or plan.corrected.num_rows)
            at = finished_at.astimezone(UTC).isoformat()
            times = {"at": at} if plan.removed.num_rows else {}
            rows = Rows(connection.sql(rows_of(plan, counts.kept, self.form), params=times), self.form)
            try:
                with explain(self.uri, f"commit {self.form.name} to"):
                    self._enter(rows.reader(), facts, plan, at, blind)
            except (DeltaError, StorageError) as error:
                if rows.fault is not None:
                    raise rows.fault from None
                # The commit may exist: the store's answer was lost, or a step after the commit failed.
                if log.version_of(self._open(), facts[log.ATTEMPT]) is not None:
                    return counts
                if isinstance(error, StorageError):
                    raise
                raise LabelsError(
                    f"{self.uri}: the commit failed and the table is unchanged ({shorten(error)}). Submit the job "
                    "again."
                ) from None
        return counts

    @contextmanager
    def joined(self, plan: Plan) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection with the rows staged so far, and with the other tables of `cluster.labels.rows`.

        Raises:
            LabelsError: a staged file cannot be read.
        """
        with self.run(plan).finished() as connection:
            connection.register("removed", plan.removed)
            connection.register("corrected", plan.corrected)
            connection.register("labels", self._rows())
            connection.register("touched", self._touched(plan))
            self._join_more(connection, plan)
            [(failed,)] = connection.sql("SELECT count(*) FROM finished WHERE NOT labeled").fetchall()
            # Without failures no file need be read.
            connection.execute(FIND_KEPT if failed else "CREATE TEMP TABLE kept (track_id VARCHAR)")
            yield connection

    def _join_more(self, connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
        """Add what only tables of this format have to a connection."""

    def _count(self, connection: duckdb.DuckDBPyConnection, plan: Plan) -> RunCounts:
        [(finished, labeled)] = connection.sql(
            "SELECT count(*), count(*) FILTER (WHERE labeled) FROM finished"
        ).fetchall()
        if finished != plan.todo.num_rows:
            raise LabelsError(
                f"{self.uri}: {format_count(plan.todo.num_rows, 'track')} planned, but {finished:,} with a row; "
                "nothing was committed. Submit the job again to finish them."
            )
        applied = 0
        if self.form.corrected:
            [(applied,)] = connection.sql("SELECT count(*) FROM overriding SEMI JOIN todo USING (track_id)").fetchall()
        [(kept,)] = connection.sql("SELECT count(*) FROM kept").fetchall()
        return RunCounts(
            **plan.counts.to_json(),
            labeled=labeled,
            kept=kept,
            quarantined=finished - labeled - kept,
            overridden=applied,
        )

    def _touched(self, plan: Plan) -> pads.Dataset | pa.Table:
        """Return the rows of the files in which a track of the plan may have its row."""
        if self._table is None:
            return self._rows()
        asked = [plan.removed, plan.corrected] if plan.fresh else [plan.todo, plan.removed, plan.corrected]
        return self.dataset(log.files_that_may_hold(self._table, [rows["track_id"] for rows in asked]))

    def _enter(self, rows: pa.RecordBatchReader, facts: dict[str, str], plan: Plan, at: str, blind: bool) -> None:
        """Write the commit.

        Args:
            rows: rows to write.
            facts: what the table's history says of the commit.
            plan: the run's plan.
            at: `removed_at` of the tracks that left the catalog, in ISO 8601.
            blind: whether none of the rows is in the table yet, so that the table need not be read.
        """
        properties = CommitProperties(
            custom_metadata=facts,
            app_transactions=[Transaction(log.APPLICATION, self.version + 1)],
            # If another writer creates the table first, a retry would append: two rows for each track.
            max_commit_retries=0 if self._table is None else None,
        )
        self._add_columns()
        size = self.form.row_group_rows
        writing = None if size is None else WriterProperties(max_row_group_size=size)
        ways: dict[str, Any] = {"commit_properties": properties, "writer_properties": writing}
        if self._table is None:
            place, options = log.delta_uri(self.uri), self.uri.storage_options
            write_deltalake(place, rows, name=f"mgc {self.form.name}", storage_options=options, **ways)
        elif blind:
            write_deltalake(self._table, rows, mode="append", **ways)
        else:
            merger = self._table.merge(
                rows,
                "new.track_id = old.track_id",
                source_alias="new",
                target_alias="old",
                **ways,
            )
            if plan.policy.gone == "prune":
                # The row of a corrected track stays, marked as removed: the correction returns with the track. A row
                # that comes only because its correction changes keeps an earlier `removed_at`, and stays.
                merger = merger.when_matched_delete(
                    f"new.removed_at = arrow_cast('{at}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
                    + (" AND new.override_by IS NULL" if self.form.corrected else "")
                )
            merger.when_matched_update_all().when_not_matched_insert_all().execute()

    def _add_columns(self) -> None:
        """Give a table from before some columns those columns, in a commit that changes no rows."""
        if self._table is None:
            return
        there = {field.name for field in self._table.schema().fields}
        added = pa.schema([field for field in self.form.added if field.name not in there])
        if added.names:
            self._table.alter.add_columns(Schema.from_arrow(added).fields)

    def refuse_overtaken(self, plan: Plan) -> None:
        """Raise LabelsError if another run has committed since a plan was made."""
        latest = type(self)(self.uri)
        if plan.base != self.base or latest._last_run != self._last_run:
            raise self._overtaken(latest.version)

    def _overtaken(self, version: int) -> LabelsError:
        return LabelsError(
            f"{self.uri}: another run has committed version {version} since this one was planned; nothing of this "
            "one was committed. Submit it again: it plans anew."
        )
