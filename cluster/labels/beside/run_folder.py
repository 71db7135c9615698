"""The folder of a run: its frozen plan and its finished rows, until they are committed.

The folder is inside the table that the run is for, under a key that is a hash of what the run depends on. A killed run
that is submitted again finds both there, and hears only the missing tracks.

All files are sealed (`cluster.storage.sealed`). A damaged one is moved to a folder beside them, for a person to look
at, and the run goes on without it: a plan is written anew, and the tracks of staged rows are labelled again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.labels.plan import PLAN, Plan, plan_rows
from cluster.labels.rows import USABLE
from cluster.labels.runs.format import Format
from cluster.labels.verdicts import FORMER_REASONS
from cluster.storage import files
from cluster.storage.notice import notice
from cluster.storage.sealed import DamageError
from cluster.storage.uri import Uri
from cluster.tables.duckdb import AS_WRITTEN, open_duckdb
from cluster.tables.parquet import is_parquet, open_parquet, reading
from mgc import schema
from mgc.errors import LabelsError, StorageError
from mgc.units import format_count

ROWS_OF_A_PORTION: Final = 100_000
"""Rows in one file of tracks to stream, about 15 MB in memory."""

FILES_AT_ONCE: Final = 16
"""Staged files to check at a time. Each takes some 20 MB of memory."""

_AGAIN: Final = "Submit the job again."


class DamagedRowsError(LabelsError):
    """Staged files were found damaged after the run had checked them. They are set aside; their tracks are missing."""


class RunFolder:
    """Files that the run of a plan keeps until it is committed.

    Args:
        table_uri: folder of the table.
        plan: plan of the run.
        form: format of the table.

    Attributes:
        uri: the run's folder. Readers of Delta tables, and their vacuum, ignore names that begin with `_`.
        staged_uri: folder of the finished rows.
        set_aside_uri: folder of damaged files.
    """

    def __init__(self, table_uri: Uri, plan: Plan, form: Format) -> None:
        self._form = form
        self._plan = plan
        self._table_uri = table_uri
        self._runs = table_uri / "_runs"
        self.uri = self._runs / f"{plan.base + 1}-{plan.key}"
        self._plan_uri = self.uri / "plan.parquet"
        self.staged_uri = self.uri / "staged"
        self.set_aside_uri = self.uri / "set_aside"
        self._refused_uri = self.uri / "refused"
        self._sound: set[str] = set()

    def mark_refused(self, checks: Iterable[str]) -> None:
        """Remember the checks for which the guard stopped this run before its commit."""
        files.write_bytes(self._refused_uri, "\n".join(checks).encode())

    def refused_for(self) -> frozenset[str] | None:
        """Return the checks for which the guard stopped this run before its commit; None if it did not stop it.

        A run that mgc 0.1 stopped names none.
        """
        if not files.exists(self._refused_uri):
            return None
        return frozenset(files.read_text(self._refused_uri).split())

    def begin_again(self) -> None:
        """Forget the staged rows of a run that the guard stopped: the cause may be mended by now."""
        files.delete(self.staged_uri)
        files.delete(self._refused_uri)

    def frozen(self) -> pa.Table | None:
        """Return the rows to label as an earlier submission wrote them. None if there are none, or they are damaged."""
        try:
            return self._read_plan(self._plan_uri) if files.exists(self._plan_uri) else None
        except DamageError:
            return None

    def freeze(self) -> Uri:
        """Write the rows to label, unless the same rows are already there. Returns their URI.

        A damaged plan is set aside.
        """
        aside = self._set_aside([self._plan_uri] if files.exists(self._plan_uri) else [], self._read_plan)
        if aside:
            notice(f"{_describe(aside)} The plan is written anew.")
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

    def set_aside_portion(self, uri: Uri) -> bool:
        """Set the damaged files of a portion aside. Returns whether there were any; then write another portion."""
        aside = self._set_aside(files.list_uris(uri), self._read_plan)
        if aside:
            notice(f"{_describe(aside)} The rest of the plan is written anew.")
        return bool(aside)

    def staged(self) -> pads.Dataset | None:
        """Return the finished rows of the planned model and front end, or None if there are no files.

        Reading the dataset fails if a page of a file is damaged. Rows of genres outside the taxonomy are left out.
        """
        if not any(map(is_parquet, files.list_uris(self.staged_uri))):
            return None
        complete = (pc.field("model_id") == self._plan.model_id) & (pc.field("features_id") == self._plan.features_id)
        for field in self._form.columns:
            complete = complete if field.nullable else complete & pc.field(field.name).is_valid()
        if self._plan.genres:
            complete &= pc.field("genre_top").isin(self._plan.genres) | (pc.field("status") == schema.QUARANTINED)
        staged = open_parquet(self.staged_uri, _AGAIN, LabelsError, self._form.columns)
        return staged.filter(self._form.complete & complete)

    def missing(self) -> pa.Table:
        """Check the staged files, set damaged ones aside, and return the planned rows that have no staged row.

        A staged row counts if it has the planned content. A file that was found sound before is not read again.
        """
        aside = self._set_aside(self._staged_files(), self._read_staged)
        try:
            rest = self._without_row()
        except DamagedRowsError:
            # The damage came after the check. Each time there is a file less.
            return self.missing()
        if aside:
            notice(f"{_describe(aside)} Labelled again: {format_count(rest.num_rows, 'track')} without a row.")
        return rest

    @contextmanager
    def finished(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection with the tables `todo`, `staged` and `finished`.

        `finished` has a row for each planned track with staged rows: `times` counts them, and `labeled` says whether
        one of them is a label.

        Raises:
            DamagedRowsError: staged files are damaged. They are set aside, and `missing` has their tracks.
            LabelsError: rows cannot be read, though every staged file is sound.
        """
        try:
            staged = self.staged()
            # With joins as written, the staged rows stream past the other tables, which are narrow.
            opened = open_duckdb(AS_WRITTEN)
            with reading(self._table_uri, _AGAIN, _UnreadableError), opened as connection:
                connection.register("todo", self._plan.todo)
                connection.register("staged", self._form.columns.empty_table() if staged is None else staged)
                connection.execute(
                    "CREATE TEMP TABLE finished AS SELECT track_id, count(*) AS times, "
                    f"bool_or({self._form.answered}) AS labeled FROM {USABLE} GROUP BY track_id"
                )
                yield connection
        except _UnreadableError:
            self._sound.clear()
            aside = self._set_aside(self._staged_files(), self._read_staged)
            if aside:
                notice(_describe(aside))
                raise DamagedRowsError(f"{_describe(aside)} Nothing was committed. {_AGAIN}") from None
            raise

    def sweep(self) -> None:
        """Delete the run's folder, and the folders of killed runs that can no longer commit.

        Prints a failure and does not raise it, since the run is committed.
        """
        try:
            files.delete(self.uri)
            below = self._runs.path + "/"
            names = {uri.path.removeprefix(below).partition("/")[0] for uri in files.list_uris(self._runs)}
            for name in names:
                number = name.partition("-")[0]
                # A run planned from the same version may still be running. Its commit will be refused.
                if number.isdecimal() and int(number) < self._plan.base + 1:
                    files.delete(self._runs / name)
        except StorageError as error:
            notice(f"The run is committed, but its folder could not be deleted: {error}")

    def _without_row(self) -> pa.Table:
        """Return the planned rows that have no staged row."""
        if self.staged() is None:
            return self._plan.todo
        with self.finished() as connection:
            rest = connection.sql("SELECT * FROM todo ANTI JOIN finished USING (track_id) ORDER BY track_id")
            return plan_rows(rest.to_arrow_table())

    def _staged_files(self) -> list[Uri]:
        return [uri for uri in files.list_uris(self.staged_uri) if is_parquet(uri) and uri.name not in self._sound]

    def _read_plan(self, uri: Uri) -> pa.Table:
        rows = files.read_table(uri)
        _check_columns(rows, PLAN)
        reasons = rows["reason"]
        for former, reason in FORMER_REASONS.items():
            reasons = pc.if_else(pc.equal(reasons, former), reason, reasons)
        return rows.set_column(PLAN.get_field_index("reason"), PLAN.field("reason"), reasons)

    def _read_staged(self, uri: Uri) -> None:
        """Check a staged file, and remember that it is sound.

        Raises:
            DamageError: it is damaged, lacks columns, or holds a genre outside the taxonomy.
        """
        rows = files.read_table(uri)
        _check_columns(rows, self._form.columns)
        if self._plan.genres:
            answers = pc.struct_field(pc.list_flatten(rows["top_k"]), "genre")
            for genres in (rows["genre_top"], answers):
                known = pc.is_in(genres, pa.array([*self._plan.genres, None], pa.string()))
                if not pc.all(known, min_count=0).as_py():
                    strange = genres.filter(pc.invert(known))[0].as_py()
                    raise DamageError(f"it holds the genre {strange[:40]!r}, which the model does not know")
        self._sound.add(uri.name)

    def _set_aside(self, uris: Iterable[Uri], read: Callable[[Uri], object]) -> list[tuple[Uri, str]]:
        """Move the files that are damaged into the folder beside. Returns their URIs and what is wrong with each."""

        def fault(uri: Uri) -> str | None:
            try:
                read(uri)
            except DamageError as error:
                return str(error)
            return None

        uris = list(uris)
        with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
            found = [(uri, what) for uri, what in zip(uris, threads.map(fault, uris), strict=True) if what is not None]
        for uri, _ in found:
            files.move(uri, self.set_aside_uri / uri.path.removeprefix(self.uri.path))
        return found


def _check_columns(rows: pa.Table, columns: pa.Schema) -> None:
    found = {field.name: field.type for field in rows.schema}
    wrong = [field.name for field in columns if found.get(field.name) != field.type]
    if wrong:
        raise DamageError(f"it lacks columns, or their types differ: {', '.join(wrong[:3])}")


def _describe(aside: list[tuple[Uri, str]]) -> str:
    uri, what = aside[0]
    others = f", and {len(aside) - 1} more" if len(aside) > 1 else ""
    return f"{uri}: this file was damaged ({what}) and is set aside{others}."


class _UnreadableError(LabelsError):
    """Rows cannot be read."""
