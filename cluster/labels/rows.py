"""The rows that a commit enters: what was staged, who is gone, what a curator corrected, as one query.

It runs where `staged`, `todo`, `finished`, `removed`, `corrected`, `labels` and `overriding` are tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import duckdb
import pyarrow as pa

from cluster.labels.plan import Plan
from mgc import schema

ROWS_AT_ONCE: Final = 50_000
"""Rows of a commit in memory together, about 20 MB."""

FORMAT_KEY: Final = "mgc_format_version"
COMMITTED: Final = schema.LABELS.set(0, schema.LABELS.field(0).with_metadata({FORMAT_KEY: str(schema.FORMAT_VERSION)}))
"""`schema.LABELS` as the table keeps it. deltalake refuses table properties that it does not know and drops metadata of
the schema, so the format version stands in that of the first column, where appends and merges leave it."""

USABLE: Final = "staged SEMI JOIN todo USING (track_id, uri, content_tag)"
"""Staged rows that are of the plan, with its content."""

_COLUMNS: Final = ", ".join(schema.LABELS.names)
# A task that Ray ran twice staged its rows twice. Only these few are sorted; all others stream.
_STAGED: Final = f"""
    SELECT {_COLUMNS} FROM {USABLE} ANTI JOIN (FROM finished WHERE times > 1) USING (track_id)
    UNION ALL
    (SELECT DISTINCT ON (track_id) {_COLUMNS} FROM {USABLE} SEMI JOIN (FROM finished WHERE times > 1) USING (track_id)
     ORDER BY track_id, status = '{schema.LABELED}' DESC, labeled_at DESC)
"""
_REMOVED: Final = f"""
    SELECT {_COLUMNS.replace("removed_at", "CAST($at AS TIMESTAMPTZ) AS removed_at")}
    FROM labels SEMI JOIN removed USING (track_id)
"""
_CORRECTED: Final = f"SELECT {_COLUMNS} FROM labels SEMI JOIN corrected USING (track_id)"
# The model's own answer stays in `top_k`, its failure in `error_kind`: a correction can be withdrawn.
_OVERRIDDEN: Final = {
    "genre_top": "coalesce(o.genre, CASE WHEN m.override_by IS NULL THEN m.genre_top ELSE m.top_k[1].genre END)",
    "status": f"CASE WHEN o.genre IS NOT NULL OR m.error_kind IS NULL THEN '{schema.LABELED}' "
    f"ELSE '{schema.QUARANTINED}' END",
    "override_by": 'o."by"',
    "override_reason": "o.reason",
}
_FINAL: Final = ", ".join(f"{_OVERRIDDEN.get(name, 'm.' + name)} AS {name}" for name in schema.LABELS.names)


def rows_of(plan: Plan) -> str:
    """The query of a commit's rows; the whole table is looked through only for what is to be found there."""
    parts = [_STAGED]
    parts += [_REMOVED] if plan.removed.num_rows else []
    parts += [_CORRECTED] if plan.corrected.num_rows else []
    return f"SELECT {_FINAL} FROM ({' UNION ALL '.join(parts)}) m LEFT JOIN overriding o USING (track_id)"


class Rows:
    """Rows of a query as labels, streamed; keeps what went wrong, of which delta-rs passes on the text only."""

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
        self._relation = relation
        self.fault: Exception | None = None

    def reader(self) -> pa.RecordBatchReader:
        """The rows as `COMMITTED`; may be read once."""
        return pa.RecordBatchReader.from_batches(COMMITTED, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._relation.to_arrow_reader(ROWS_AT_ONCE):
                yield pa.record_batch([batch[field.name].cast(field.type) for field in COMMITTED], schema=COMMITTED)
        except (pa.ArrowException, duckdb.Error, OSError) as fault:
            self.fault = fault
            raise
