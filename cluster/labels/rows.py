"""The rows that a commit writes into a table of runs, as a query.

The query expects the tables `staged`, `todo`, `finished`, `kept`, `removed`, `corrected` and `touched`, and for labels
also `overriding`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import duckdb
import pyarrow as pa

from cluster.labels.plan import Plan
from cluster.labels.runs.format import LABELS, Format
from mgc import schema

FIND_KEPT: Final = """
    CREATE TEMP TABLE kept AS SELECT track_id FROM touched SEMI JOIN (FROM finished WHERE NOT labeled) USING (track_id)
    WHERE error_kind IS NULL
"""
"""Statement that makes `kept`: the tracks whose try failed and that have a label of the model. They keep it."""

USABLE: Final = "staged SEMI JOIN todo USING (track_id, uri, content_tag)"
"""Staged rows of planned tracks whose content is the planned one."""


def staged_rows(form: Format) -> str:
    """Return the query of the run's rows, one for each finished track.

    Ray may run a task twice, which stages its rows twice. Only these few rows are sorted; all others stream.
    """
    columns = ", ".join(form.columns.names)
    return f"""
        SELECT {columns} FROM {USABLE} ANTI JOIN (FROM finished WHERE times > 1) USING (track_id)
        UNION ALL
        (SELECT DISTINCT ON (track_id) {columns} FROM {USABLE} SEMI JOIN (FROM finished WHERE times > 1)
         USING (track_id) ORDER BY track_id, {form.answered} DESC, {form.at} DESC)
    """


STAGED: Final = staged_rows(LABELS)
"""Query of the label rows of a run."""

# The answer stays as it is. The failure stands beside it, with what was tried, so that it is not tried again in vain.
_FAILURE: Final = {
    "tries": "f.tries",
    "next_try_at": "f.next_try_at",
    "last_error_kind": "f.error_kind",
    "last_error_message": "f.error_message",
    "stale_since": "coalesce(l.stale_since, f.{at})",
    "tried_uri": "f.uri",
    "tried_content_tag": "f.content_tag",
    "tried_model_id": "f.model_id",
    "tried_features_id": "f.features_id",
    "removed_at": "CAST(NULL AS TIMESTAMPTZ)",
}
# The model's answer stays in `top_k` and its failure in `error_kind`, so that a correction can be withdrawn.
_OVERRIDDEN: Final = {
    "genre_top": "coalesce(o.genre, CASE WHEN m.override_by IS NULL THEN m.genre_top ELSE m.top_k[1].genre END)",
    "status": f"CASE WHEN o.genre IS NOT NULL OR m.error_kind IS NULL THEN '{schema.LABELED}' "
    f"ELSE '{schema.QUARANTINED}' END",
    "override_by": 'o."by"',
    "override_reason": "o.reason",
}


def rows_of(plan: Plan, kept: int, form: Format = LABELS) -> str:
    """Return the query of a commit's rows. It scans the table only where the plan needs rows from it.

    Args:
        plan: the run's plan.
        kept: number of tracks in `kept`.
        form: format of the table.
    """
    names, staged = form.columns.names, staged_rows(form)
    columns = ", ".join(names)
    parts = [staged]
    if kept:
        beside = ", ".join(f"{_FAILURE.get(name, 'l.' + name).format(at=form.at)} AS {name}" for name in names)
        failed = f"SELECT * FROM ({staged}) SEMI JOIN kept USING (track_id)"
        parts = [
            f"SELECT {columns} FROM ({staged}) ANTI JOIN kept USING (track_id)",
            f"SELECT {beside} FROM touched l JOIN ({failed}) f ON l.track_id = f.track_id",
        ]
    if plan.removed.num_rows:
        marked = columns.replace("removed_at", "CAST($at AS TIMESTAMPTZ) AS removed_at")
        parts.append(f"SELECT {marked} FROM touched SEMI JOIN removed USING (track_id)")
    if plan.corrected.num_rows:
        parts.append(f"SELECT {columns} FROM touched SEMI JOIN corrected USING (track_id)")
    rows = " UNION ALL ".join(parts)
    if not form.corrected:
        return f"SELECT {columns} FROM ({rows})"
    final = ", ".join(f"{_OVERRIDDEN.get(name, 'm.' + name)} AS {name}" for name in names)
    return f"SELECT {final} FROM ({rows}) m LEFT JOIN overriding o USING (track_id)"


class Rows:
    """A stream of a query's rows.

    Args:
        relation: the query.
        form: format of the table that the rows are for.

    Attributes:
        fault: error raised while reading the rows, if any. delta-rs passes on only its text.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation, form: Format) -> None:
        self._relation = relation
        self._at_once = form.rows_at_once
        self._columns = form.committed
        self.fault: Exception | None = None

    def reader(self) -> pa.RecordBatchReader:
        """Return a reader of the rows as the table stores them. It can be read once."""
        return pa.RecordBatchReader.from_batches(self._columns, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._relation.to_arrow_reader(self._at_once):
                arrays = [batch[field.name].cast(field.type) for field in self._columns]
                yield pa.record_batch(arrays, schema=self._columns)
        except (pa.ArrowException, duckdb.Error, OSError) as fault:
            self.fault = fault
            raise
