"""The rows of the labels table: its format, and the query for those that a commit writes.

The query expects the tables `staged`, `todo`, `finished`, `kept`, `removed`, `corrected`, `touched` and `overriding`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from cluster.labels.plan import Plan
from cluster.storage.uri import Uri
from mgc import schema
from mgc.errors import LabelsError

ROWS_AT_ONCE: Final = 50_000
"""Rows of a commit in memory at a time, about 20 MB."""

FORMAT_KEY: Final = "mgc_format_version"
COMMITTED: Final = schema.LABELS.set(0, schema.LABELS.field(0).with_metadata({FORMAT_KEY: str(schema.FORMAT_VERSION)}))
"""`schema.LABELS` as the table stores it. The format version is in the metadata of the first column. deltalake refuses
table properties that it does not know and drops the metadata of the schema, but appends and merges keep a column's."""

FIND_KEPT: Final = """
    CREATE TABLE kept AS SELECT track_id FROM touched SEMI JOIN (FROM finished WHERE NOT labeled) USING (track_id)
    WHERE error_kind IS NULL
"""
"""Statement that makes `kept`: the tracks whose try failed and that have a label of the model. They keep it."""

USABLE: Final = "staged SEMI JOIN todo USING (track_id, uri, content_tag)"
"""Staged rows of planned tracks whose content is the planned one."""

_COLUMNS: Final = ", ".join(schema.LABELS.names)
# Ray may run a task twice, which stages its rows twice. Only these few rows are sorted; all others stream.
STAGED: Final = f"""
    SELECT {_COLUMNS} FROM {USABLE} ANTI JOIN (FROM finished WHERE times > 1) USING (track_id)
    UNION ALL
    (SELECT DISTINCT ON (track_id) {_COLUMNS} FROM {USABLE} SEMI JOIN (FROM finished WHERE times > 1) USING (track_id)
     ORDER BY track_id, status = '{schema.LABELED}' DESC, labeled_at DESC)
"""
"""Query of the run's rows, one for each finished track."""

_RENEWED: Final = f"SELECT {_COLUMNS} FROM ({STAGED}) ANTI JOIN kept USING (track_id)"
# The label stays as it is. The failure stands beside it, with what was tried, so that it is not tried again in vain.
_FAILURE: Final = {
    "tries": "f.tries",
    "next_try_at": "f.next_try_at",
    "last_error_kind": "f.error_kind",
    "last_error_message": "f.error_message",
    "stale_since": "coalesce(l.stale_since, f.labeled_at)",
    "tried_uri": "f.uri",
    "tried_content_tag": "f.content_tag",
    "tried_model_id": "f.model_id",
    "tried_features_id": "f.features_id",
    "removed_at": "CAST(NULL AS TIMESTAMPTZ)",
}
_KEPT: Final = f"""
    SELECT {", ".join(f"{_FAILURE.get(name, 'l.' + name)} AS {name}" for name in schema.LABELS.names)}
    FROM touched l JOIN (SELECT * FROM ({STAGED}) SEMI JOIN kept USING (track_id)) f ON l.track_id = f.track_id
"""
_REMOVED: Final = f"""
    SELECT {_COLUMNS.replace("removed_at", "CAST($at AS TIMESTAMPTZ) AS removed_at")}
    FROM touched SEMI JOIN removed USING (track_id)
"""
_CORRECTED: Final = f"SELECT {_COLUMNS} FROM touched SEMI JOIN corrected USING (track_id)"
# The model's answer stays in `top_k` and its failure in `error_kind`, so that a correction can be withdrawn.
_OVERRIDDEN: Final = {
    "genre_top": "coalesce(o.genre, CASE WHEN m.override_by IS NULL THEN m.genre_top ELSE m.top_k[1].genre END)",
    "status": f"CASE WHEN o.genre IS NOT NULL OR m.error_kind IS NULL THEN '{schema.LABELED}' "
    f"ELSE '{schema.QUARANTINED}' END",
    "override_by": 'o."by"',
    "override_reason": "o.reason",
}
_FINAL: Final = ", ".join(f"{_OVERRIDDEN.get(name, 'm.' + name)} AS {name}" for name in schema.LABELS.names)


def rows_of(plan: Plan, kept: int) -> str:
    """Return the query of a commit's rows. It scans the table only where the plan needs rows from it.

    Args:
        plan: the run's plan.
        kept: number of tracks in `kept`.
    """
    parts = [_RENEWED, _KEPT] if kept else [STAGED]
    parts += [_REMOVED] if plan.removed.num_rows else []
    parts += [_CORRECTED] if plan.corrected.num_rows else []
    return f"SELECT {_FINAL} FROM ({' UNION ALL '.join(parts)}) m LEFT JOIN overriding o USING (track_id)"


def check_format(uri: Uri, table: DeltaTable) -> None:
    """Raise LabelsError unless this mgc can read a table."""
    fields = {field.name: field for field in table.schema().fields}
    added = {field.name for field in schema.LABELS_ADDED}
    missing = [name for name in schema.LABELS.names if name not in fields and name not in added]
    first = fields.get(COMMITTED.names[0])
    version = int(first.metadata.get(FORMAT_KEY, 1)) if first else 1
    if version > schema.FORMAT_VERSION:
        raise LabelsError(
            f"{uri}: format version {version}, this mgc reads up to {schema.FORMAT_VERSION}; upgrade mgc."
        )
    if missing:
        raise LabelsError(
            f"{uri} is a Delta table, but not a labels table of mgc: it lacks {', '.join(missing[:5])}. "
            "Choose another --labels."
        )


class Rows:
    """A stream of a query's rows as labels.

    Attributes:
        fault: error raised while reading the rows, if any. delta-rs passes on only its text.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
        self._relation = relation
        self.fault: Exception | None = None

    def reader(self) -> pa.RecordBatchReader:
        """Return a reader of the rows as `COMMITTED`. It can be read once."""
        return pa.RecordBatchReader.from_batches(COMMITTED, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._relation.to_arrow_reader(ROWS_AT_ONCE):
                yield pa.record_batch([batch[field.name].cast(field.type) for field in COMMITTED], schema=COMMITTED)
        except (pa.ArrowException, duckdb.Error, OSError) as fault:
            self.fault = fault
            raise
