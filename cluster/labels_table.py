"""The labels table: a Delta table in which one run is one commit.

A run first freezes its plan as Parquet under a key that is a hash of what it depends on, stages its rows beside it, and enters them all
in one commit. Submitted again after it was killed, it finds plan and rows under the same key and does only what is missing. What
readers see is the table before the run or after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from cluster import storage
from cluster.tables import open_parquet
from mgc import schema
from mgc.configuration import short_hash
from mgc.errors import ErrorKind, LabelsError

APPLICATION: Final = "mgc-label"
"""Name of our transactions in the table's log."""

MOST_TRIES: Final = 5
"""A fetch that failed so often is not tried again until the track's bytes change."""

_FORMAT_KEY: Final = "mgc.formatVersion"

PLAN: Final = pa.schema(
    [
        *(schema.CATALOG.field(name) for name in ("track_id", "uri", "size_bytes", "content_tag")),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("tries", pa.int32(), nullable=False),
    ]
)
"""One row a track to be labelled. `reason`: new, changed, stale, retry. `tries`: earlier ones with the same bytes."""


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        todo: rows of `PLAN`.
        removed: track ids that the table has and the catalog no longer.
        counts: tracks by reason, `up_to_date`, `pending` (left out by a limit) and `removed`.
        version: of the table planned against; -1 where there is none yet.
        key: names the run.
    """

    todo: pa.Table
    removed: pa.Table
    counts: dict[str, int]
    version: int
    key: str

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.todo.num_rows and not self.removed.num_rows


class LabelsTable:
    """The labels table under a URI, which may not exist yet."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._where = storage.redact(uri)
        self._table = self._open()

    def _open(self) -> DeltaTable | None:
        location = storage.locate(self.uri)
        with storage.explain(self.uri, "open the labels table at"):
            # Asked through our own client first: it tells a missing bucket and wrong credentials from a missing table.
            info = location.filesystem.get_file_info(location.path)
            if info.type.name == "File":
                raise LabelsError(f"{self._where} is a file; a labels table is a folder, named by --labels.")
        try:
            table = DeltaTable(_delta_uri(self.uri), storage_options=storage.delta_options(self.uri))
        except TableNotFoundError:
            return None
        except (DeltaError, OSError, ValueError) as error:
            raise LabelsError(f"{self._where}: the labels table cannot be opened: {_one_line(error)}.") from None
        version = int(table.metadata().configuration.get(_FORMAT_KEY) or "1")
        if version > schema.FORMAT_VERSION:
            raise LabelsError(
                f"{self._where}: format version {version}, this mgc reads up to {schema.FORMAT_VERSION}; upgrade mgc."
            )
        missing = [name for name in schema.LABELS.names if name not in {f.name for f in table.schema().fields}]
        if missing:
            raise LabelsError(
                f"{self._where} is a Delta table, but no labels table of mgc: it lacks {', '.join(missing[:5])}."
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

    def dataset(self) -> pads.Dataset:
        """The committed rows.

        Raises:
            LabelsError: nothing was committed yet.
        """
        if self._table is None:
            raise LabelsError(f"{self._where}: there is no labels table here; `mgc label CATALOG --labels {self._where}` makes one.")
        return self._table.to_pyarrow_dataset()

    def plan(self, catalog: pa.Table, model_id: str, features_id: str, options: dict[str, Any], limit: int | None) -> Plan:
        """Catalog minus what the table already holds for the same bytes, model and front end.

        A quarantined track is tried again when its bytes, the model or the front end change; a failed fetch also without
        that, up to `MOST_TRIES` times. With a limit, only the first so many rows of the catalog are looked at, and nothing
        counts as removed.

        Args:
            catalog: all rows, ordered by track id, as `schema.CATALOG`.
            model_id: the bundle's id.
            features_id: of its front end.
            options: whatever else changes what the run does; becomes part of its key.
            limit: see above.
        """
        connection = duckdb.connect()
        considered = catalog if limit is None else catalog.slice(0, limit)
        connection.register("catalog", considered.select(["track_id", "uri", "size_bytes", "content_tag"]))
        connection.register("labels", self.dataset() if self._table else schema.LABELS.empty_table())
        arguments = {"model": model_id, "features": features_id, "most": MOST_TRIES, "fetch": ErrorKind.FETCH_FAILED.value}
        judged = connection.execute(
            """
            SELECT c.track_id, c.uri, c.size_bytes, c.content_tag,
                CASE WHEN l.track_id IS NULL OR l.removed_at IS NOT NULL THEN 'new'
                     WHEN l.content_tag <> c.content_tag OR l.uri <> c.uri THEN 'changed'
                     WHEN l.model_id <> $model OR l.features_id <> $features THEN 'stale'
                     WHEN l.error_kind = $fetch AND l.tries < $most THEN 'retry'
                     ELSE 'up_to_date' END AS reason,
                CAST(CASE WHEN l.content_tag = c.content_tag AND l.removed_at IS NULL THEN l.tries ELSE 0 END AS INTEGER)
                    AS tries
            FROM catalog c LEFT JOIN labels l USING (track_id) ORDER BY c.track_id
            """,
            arguments,
        ).to_arrow_table()
        connection.register("judged", judged)
        counts = {"new": 0, "changed": 0, "stale": 0, "retry": 0, "up_to_date": 0}
        counts |= dict(connection.execute("SELECT reason, count(*) FROM judged GROUP BY reason").fetchall())
        todo = connection.execute("SELECT * FROM judged WHERE reason <> 'up_to_date' ORDER BY track_id").to_arrow_table()
        removed = pa.table({"track_id": pa.array([], pa.string())})
        if limit is None:
            removed = connection.execute(
                "SELECT track_id FROM labels WHERE removed_at IS NULL AND track_id NOT IN (SELECT track_id FROM catalog)"
                " ORDER BY track_id"
            ).to_arrow_table()
        counts["pending"] = catalog.num_rows - considered.num_rows
        counts["removed"] = removed.num_rows
        snapshot = connection.execute(
            "SELECT count(*), bit_xor(hash(track_id, uri, content_tag)) FROM catalog"
        ).fetchone()
        key = short_hash([list(map(str, snapshot or ())), model_id, features_id, self.version, options])
        return Plan(_plan_rows(todo), removed.cast(pa.schema([("track_id", pa.string())])), counts, self.version, key)

    # A run

    def run_uri(self, plan: Plan) -> str:
        """Where a run keeps its plan and its rows until they are committed. Delta's readers skip names that begin with `_`."""
        return storage.join(self.uri, "_runs", plan.key)

    def freeze(self, plan: Plan) -> str:
        """Write the plan down; returns the URI of the rows to do. A plan that is already there is kept."""
        uri = storage.join(self.run_uri(plan), "plan.parquet")
        if not storage.exists(uri):
            sink = pa.BufferOutputStream()
            pq.write_table(plan.todo, sink, compression="zstd")
            storage.write_bytes(uri, sink.getvalue().to_pybytes())
        return uri

    def staged_uri(self, plan: Plan) -> str:
        """Folder of the finished rows."""
        return storage.join(self.run_uri(plan), "staged")

    def staged(self, plan: Plan) -> pads.Dataset | None:
        """The finished rows so far, or None."""
        uri = self.staged_uri(plan)
        if not storage.exists(uri):
            return None
        return open_parquet(uri, "", LabelsError)

    def missing(self, plan: Plan) -> pa.Table:
        """Planned rows that are not staged yet with the planned content."""
        staged = self.staged(plan)
        if staged is None:
            return plan.todo
        connection = duckdb.connect()
        connection.register("todo", plan.todo)
        connection.register("staged", staged)
        return _plan_rows(
            connection.execute(
                "SELECT * FROM todo ANTI JOIN staged USING (track_id, content_tag) ORDER BY track_id"
            ).to_arrow_table()
        )

    def commit(self, plan: Plan, run_id: str, finished_at: Any) -> int:
        """Check the invariant and enter the run in one commit; returns the table's version.

        Raises:
            LabelsError: a planned track is missing or a row is not planned, or another run has committed meanwhile; the table
                is as it was.
        """
        rows = self._checked_rows(plan, finished_at)
        properties = CommitProperties(
            custom_metadata={"mgc.run_id": run_id, "mgc.tracks": str(plan.todo.num_rows)},
            app_transactions=[Transaction(APPLICATION, plan.version + 1)],
        )
        with storage.explain(self.uri, "commit labels to"):
            try:
                self._write(plan, rows, properties)
            except DeltaError as error:
                now = LabelsTable(self.uri).version
                if now != plan.version:
                    raise LabelsError(
                        f"{self._where}: another run committed version {now} while this one worked on {plan.version}; "
                        "nothing of this run was entered. Submit it again: it plans anew."
                    ) from None
                raise LabelsError(f"{self._where}: the commit failed and the table is as it was: {_one_line(error)}.") from None
        self._table = self._open()
        storage.delete(self.run_uri(plan))
        return self.version

    def _write(self, plan: Plan, rows: pa.Table, properties: CommitProperties) -> None:
        options = storage.delta_options(self.uri)
        if self._table is None:
            write_deltalake(
                _delta_uri(self.uri),
                rows,
                mode="error",
                name="mgc labels",
                configuration={_FORMAT_KEY: str(schema.FORMAT_VERSION)},
                storage_options=options,
                commit_properties=properties,
            )
        elif plan.counts["new"] == rows.num_rows and not plan.removed.num_rows and not self._returning(rows):
            write_deltalake(self._table, rows, mode="append", commit_properties=properties)
        else:
            self._table.merge(
                rows, "new.track_id = old.track_id", source_alias="new", target_alias="old", commit_properties=properties
            ).when_matched_update_all().when_not_matched_insert_all().execute()

    def _returning(self, rows: pa.Table) -> bool:
        """Whether a row is in the table already: a track that was gone and is back."""
        connection = duckdb.connect()
        connection.register("rows", rows)
        connection.register("labels", self.dataset())
        found = connection.execute("SELECT count(*) FROM rows SEMI JOIN labels USING (track_id)").fetchone()
        return bool(found and found[0])

    def _checked_rows(self, plan: Plan, finished_at: Any) -> pa.Table:
        connection = duckdb.connect()
        connection.register("todo", plan.todo)
        connection.register("staged", self.staged(plan) or schema.LABELS.empty_table())
        # A task that Ray ran twice staged its rows twice: one of them is enough.
        rows = connection.execute(
            "SELECT DISTINCT ON (track_id) s.* FROM staged s SEMI JOIN todo USING (track_id, content_tag) ORDER BY track_id"
        ).to_arrow_table()
        if rows.num_rows != plan.todo.num_rows:
            raise LabelsError(
                f"{self._where}: {plan.todo.num_rows} tracks were planned, {rows.num_rows} have a row; "
                "nothing was committed. Submit the job again to finish them."
            )
        tables = [_as_labels(rows)]
        if plan.removed.num_rows:
            connection.register("removed", plan.removed)
            connection.register("labels", self.dataset())
            gone = _as_labels(connection.execute("SELECT l.* FROM labels l SEMI JOIN removed USING (track_id)").to_arrow_table())
            at = pa.array([finished_at] * gone.num_rows, schema.LABELS.field("removed_at").type)
            tables.append(gone.set_column(schema.LABELS.get_field_index("removed_at"), schema.LABELS.field("removed_at"), at))
        return pa.concat_tables(tables)


def _plan_rows(table: pa.Table) -> pa.Table:
    return table.select(PLAN.names).cast(PLAN)


def _as_labels(table: pa.Table) -> pa.Table:
    return pa.table([table[name].cast(schema.LABELS.field(name).type) for name in schema.LABELS.names], schema=schema.LABELS)


def _delta_uri(uri: str) -> str:
    location = storage.locate(uri)
    return location.uri if storage.is_remote(uri) else location.path


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
