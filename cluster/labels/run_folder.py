"""The folder of a run of the label job: its frozen plan and the rows that are finished, until they are committed.

It lies inside of the labels table, under a key that is a hash of what the run depends on: submitted again after it was
killed, a run finds both there and does only what is missing.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.labels.plan import Plan, plan_rows
from cluster.labels.rows import USABLE
from cluster.storage import files
from cluster.storage.uri import join, locate
from cluster.tables.duckdb import AS_WRITTEN, open_duckdb
from cluster.tables.parquet import is_parquet, open_parquet, reading
from mgc import schema
from mgc.errors import LabelsError, StorageError

ROWS_OF_A_PORTION: Final = 100_000
"""Rows in one file of what is to be streamed, about 15 MB in memory."""

_STAGED_REMEDY: Final = "Remove that file and submit the job again: its tracks are run again."


class RunFolder:
    """What the run of a plan keeps until it is committed.

    Args:
        table_uri: of the labels table.
        plan: of the run.

    Attributes:
        uri: of the folder. Readers of Delta tables and their vacuum leave names alone that begin with `_`.
        staged_uri: of the finished rows.
    """

    def __init__(self, table_uri: str, plan: Plan) -> None:
        self._plan = plan
        self._runs = join(table_uri, "_runs")
        self.uri = join(self._runs, f"{plan.version + 1}-{plan.key}")
        self._plan_uri = join(self.uri, "plan.parquet")
        self.staged_uri = join(self.uri, "staged")

    def frozen(self) -> pa.Table | None:
        """The rows to do as an earlier submission has written them down, or None."""
        uri = self._plan_uri
        return open_parquet(uri, "Remove it.", LabelsError).to_table() if files.exists(uri) else None

    def freeze(self) -> str:
        """Write the plan down; returns the URI of the rows to do. The same plan, already there, is kept."""
        uri, frozen = self._plan_uri, self.frozen()
        return uri if frozen is not None and frozen.equals(self._plan.todo) else _write_plan(uri, self._plan.todo)

    def portion(self, rows: pa.Table) -> str:
        """Write the rows that are still to do for a stream to read; returns the URI of their folder.

        Several files, each small enough to come as one block, which Ray then cuts evenly.
        """
        uri = join(self.uri, f"rest-{uuid.uuid4().hex}")
        for first in range(0, rows.num_rows, ROWS_OF_A_PORTION):
            _write_plan(join(uri, f"{first:09}.parquet"), rows.slice(first, ROWS_OF_A_PORTION))
        return uri

    def staged(self) -> pads.Dataset | None:
        """The rows so far that are finished and of the planned model and front end, or None.

        A file among them that is no Parquet fails whoever reads the dataset; one with other columns has no usable row.
        """
        uri = self.staged_uri
        if not any(map(is_parquet, files.list_uris(uri))):
            return None
        labeled = (pc.field("status") == schema.LABELED) & pc.field("genre_top").is_valid()
        quarantined = (pc.field("status") == schema.QUARANTINED) & pc.field("error_kind").is_valid()
        complete = (pc.field("model_id") == self._plan.model_id) & (pc.field("features_id") == self._plan.features_id)
        for field in schema.LABELS:
            complete = complete if field.nullable else complete & pc.field(field.name).is_valid()
        staged = open_parquet(uri, _STAGED_REMEDY, LabelsError, schema.LABELS)
        return staged.filter((labeled | quarantined) & complete)

    def missing(self) -> pa.Table:
        """Planned rows that are not staged yet with the planned content.

        Raises:
            LabelsError: a staged file cannot be read.
        """
        if self.staged() is None:
            return self._plan.todo
        with self.finished() as connection:
            rest = connection.sql("SELECT * FROM todo ANTI JOIN finished USING (track_id) ORDER BY track_id")
            return plan_rows(rest.to_arrow_table())

    @contextmanager
    def finished(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with `todo`, `staged` and `finished`: the planned tracks that have staged rows, and how many.

        `labeled`: one of them at least is a label.
        """
        staged = self.staged()
        try:
            # As written: the staged rows stream past the others, which are narrow.
            opened = open_duckdb(AS_WRITTEN)
            with reading(self.staged_uri, _STAGED_REMEDY, _UnreadableError), opened as connection:
                connection.register("todo", self._plan.todo)
                connection.register("staged", schema.LABELS.empty_table() if staged is None else staged)
                connection.execute(
                    "CREATE TABLE finished AS SELECT track_id, count(*) AS times, "
                    f"bool_or(status = '{schema.LABELED}') AS labeled FROM {USABLE} GROUP BY track_id"
                )
                yield connection
        except _UnreadableError:
            # Arrow does not always say which file it was.
            for each in filter(is_parquet, files.list_uris(self.staged_uri)):
                with reading(each, _STAGED_REMEDY, LabelsError):
                    open_parquet(each, _STAGED_REMEDY, LabelsError, schema.LABELS).to_table()
            raise

    def sweep(self) -> None:
        """Delete the run's folder, and those that killed runs left behind which can no longer commit."""
        runs = locate(self._runs).uri
        try:
            files.delete(self.uri)
            names = {uri.text.removeprefix(runs + "/").partition("/")[0] for uri in files.list_uris(runs)}
            for name in names:
                number = name.partition("-")[0]
                # One planned from the same version may be at work still, and is to find out by itself.
                if number.isdecimal() and int(number) < self._plan.version + 1:
                    files.delete(join(runs, name))
        except StorageError as error:
            logging.getLogger(__name__).warning("The run is committed, but its folder is still there: %s", error)


class _UnreadableError(LabelsError):
    """Staged rows cannot be read."""


def _write_plan(uri: str, rows: pa.Table) -> str:
    files.write_table(uri, rows)
    return uri
