"""The folder of a run of the label job: its frozen plan and its finished rows, until they are committed.

The folder is inside the labels table, under a key that is a hash of what the run depends on. A killed run that is
submitted again finds both there, and labels only the missing tracks.
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
from cluster.storage.uri import Uri
from cluster.tables.duckdb import AS_WRITTEN, open_duckdb
from cluster.tables.parquet import is_parquet, open_parquet, reading
from mgc import schema
from mgc.errors import LabelsError, StorageError

ROWS_OF_A_PORTION: Final = 100_000
"""Rows in one file of tracks to stream, about 15 MB in memory."""

_STAGED_REMEDY: Final = "Remove that file and submit the job again: its tracks are labelled again."


class RunFolder:
    """Files that the run of a plan keeps until it is committed.

    Args:
        table_uri: folder of the labels table.
        plan: plan of the run.

    Attributes:
        uri: the run's folder. Readers of Delta tables, and their vacuum, ignore names that begin with `_`.
        staged_uri: folder of the finished rows.
    """

    def __init__(self, table_uri: Uri, plan: Plan) -> None:
        self._plan = plan
        self._runs = table_uri / "_runs"
        self.uri = self._runs / f"{plan.version + 1}-{plan.key}"
        self._plan_uri = self.uri / "plan.parquet"
        self.staged_uri = self.uri / "staged"

    def frozen(self) -> pa.Table | None:
        """Return the rows to label as an earlier submission wrote them, or None."""
        uri = self._plan_uri
        return open_parquet(uri, "Remove it.", LabelsError).to_table() if files.exists(uri) else None

    def freeze(self) -> Uri:
        """Write the rows to label, unless the same rows are already there. Returns their URI."""
        frozen = self.frozen()
        if frozen is None or not frozen.equals(self._plan.todo):
            files.write_table(self._plan_uri, self._plan.todo)
        return self._plan_uri

    def portion(self, rows: pa.Table) -> Uri:
        """Write the remaining rows to label, for a stream to read. Returns the URI of their folder.

        Writes several files, each small enough to be one block, which Ray then splits evenly.
        """
        uri = self.uri / f"rest-{uuid.uuid4().hex}"
        for first in range(0, rows.num_rows, ROWS_OF_A_PORTION):
            files.write_table(uri / f"{first:09}.parquet", rows.slice(first, ROWS_OF_A_PORTION))
        return uri

    def staged(self) -> pads.Dataset | None:
        """Return the finished rows of the planned model and front end, or None if there are no files.

        Reading the dataset fails if one of its files is not Parquet. A file with other columns has no usable row.
        """
        if not any(map(is_parquet, files.list_uris(self.staged_uri))):
            return None
        labeled = (pc.field("status") == schema.LABELED) & pc.field("genre_top").is_valid()
        quarantined = (pc.field("status") == schema.QUARANTINED) & pc.field("error_kind").is_valid()
        complete = (pc.field("model_id") == self._plan.model_id) & (pc.field("features_id") == self._plan.features_id)
        for field in schema.LABELS:
            complete = complete if field.nullable else complete & pc.field(field.name).is_valid()
        staged = open_parquet(self.staged_uri, _STAGED_REMEDY, LabelsError, schema.LABELS)
        return staged.filter((labeled | quarantined) & complete)

    def missing(self) -> pa.Table:
        """Return the planned rows that have no staged row with the planned content.

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
        """Open a connection with the tables `todo`, `staged` and `finished`.

        `finished` has a row for each planned track with staged rows: `times` counts them, and `labeled` says whether
        one of them is a label.

        Raises:
            LabelsError: a staged file cannot be read. The message names it.
        """
        staged = self.staged()
        try:
            # With joins as written, the staged rows stream past the other tables, which are narrow.
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
            # Arrow does not always name the file.
            for each in filter(is_parquet, files.list_uris(self.staged_uri)):
                with reading(each, _STAGED_REMEDY, LabelsError):
                    open_parquet(each, _STAGED_REMEDY, LabelsError, schema.LABELS).to_table()
            raise

    def sweep(self) -> None:
        """Delete the run's folder, and the folders of killed runs that can no longer commit.

        Logs a failure and does not raise it, since the run is committed.
        """
        try:
            files.delete(self.uri)
            below = self._runs.path + "/"
            names = {uri.path.removeprefix(below).partition("/")[0] for uri in files.list_uris(self._runs)}
            for name in names:
                number = name.partition("-")[0]
                # A run planned from the same version may still be running. Its commit will be refused.
                if number.isdecimal() and int(number) < self._plan.version + 1:
                    files.delete(self._runs / name)
        except StorageError as error:
            logging.getLogger(__name__).warning("The run is committed, but its folder could not be deleted: %s", error)


class _UnreadableError(LabelsError):
    """Staged rows cannot be read."""
