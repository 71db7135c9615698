"""What a run of the label job has to do: the catalog compared with the labels table, as a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads

from mgc import schema
from mgc.configuration import short_hash
from mgc.errors import ErrorKind, LabelsError

MOST_TRIES: Final = 5
"""A track that failed so often is not tried again until its bytes, the model or the front end change."""

PLAN: Final = pa.schema(
    [
        *(schema.CATALOG.field(name) for name in schema.CATALOG_REQUIRED),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("tries", pa.int32(), nullable=False),
    ]
)
"""One row a track to label. `reason`: new, changed, stale, retry. `tries`: the failed ones before a retry, else 0."""

_JUDGED: Final = """
    SELECT c.*,
        CASE WHEN l.track_id IS NULL OR l.removed_at IS NOT NULL THEN 'new'
             WHEN l.content_tag <> c.content_tag OR l.uri <> c.uri THEN 'changed'
             WHEN l.model_id <> $model OR l.features_id <> $features THEN 'stale'
             WHEN list_contains($again, l.error_kind) AND l.tries < $most THEN 'retry'
             ELSE 'up_to_date' END AS reason,
        CASE WHEN reason = 'retry' THEN l.tries ELSE 0 END AS tries
    FROM catalog c LEFT JOIN labels l USING (track_id)
"""

_REMOVED: Final = "SELECT track_id FROM labels ANTI JOIN catalog USING (track_id) WHERE removed_at IS NULL"

# Each row as one text: a hash of several columns is the exclusive or of theirs, blind to two tracks that swap content.
_SNAPSHOT: Final = """
    SELECT count(*), bit_xor(hash(concat_ws(chr(31), track_id, uri, size_bytes, content_tag))) FROM catalog
"""


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        todo: rows of `PLAN`.
        removed: track ids that the table has and the catalog no longer.
        counts: tracks by reason, `up_to_date`, `pending` (left out by a limit) and `removed`.
        version: of the table planned against; -1 where there is none yet.
        key: names the run.
        model_id: the model asked for.
        features_id: its front end.
    """

    todo: pa.Table
    removed: pa.Table
    counts: dict[str, int]
    version: int
    key: str
    model_id: str
    features_id: str

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.todo.num_rows and not self.removed.num_rows


def make_plan(
    catalog: pa.Table,
    labels: pads.Dataset | pa.Table,
    where: str,
    version: int,
    model_id: str,
    features_id: str,
    options: dict[str, Any],
    limit: int | None,
) -> Plan:
    """Catalog minus what the labels already hold for the same bytes, model and front end.

    Args:
        catalog: see `LabelsTable.plan`, as for the others below.
        labels: rows of `schema.LABELS`.
        where: they lie, for the message.
        version: of the table that they are.
        model_id: the bundle's id.
        features_id: of its front end.
        options: become part of the key.
        limit: rows of the catalog to look at.

    Raises:
        LabelsError: the labels hold a track more than once.
    """
    considered = catalog if limit is None else catalog.slice(0, limit)
    again = [kind.value for kind in ErrorKind if not kind.permanent]
    policy = {"model": model_id, "features": features_id, "most": MOST_TRIES, "again": again}
    with duckdb.connect() as connection:
        connection.register("catalog", considered.select(list(schema.CATALOG_REQUIRED)))
        connection.register("labels", labels)
        judged = connection.sql(_JUDGED, params=policy).to_arrow_table()
        connection.register("judged", judged)
        if judged.num_rows != considered.num_rows:
            raise LabelsError(
                f"{where}: the labels table holds a track more than once, which no run of mgc leaves behind; restore a "
                "version from before, or choose another --labels."
            )
        counts = {"new": 0, "changed": 0, "stale": 0, "retry": 0, "up_to_date": 0}
        counts |= dict(connection.sql("SELECT reason, count(*) FROM judged GROUP BY reason").fetchall())
        todo = connection.sql("FROM judged WHERE reason <> 'up_to_date' ORDER BY track_id").to_arrow_table()
        limited = "" if limit is None else "LIMIT 0"
        removed = connection.sql(f"{_REMOVED} ORDER BY track_id {limited}").to_arrow_table()
        [snapshot] = connection.sql(_SNAPSHOT).fetchall()
    counts |= {"pending": catalog.num_rows - considered.num_rows, "removed": removed.num_rows}
    key = short_hash([schema.FORMAT_VERSION, *snapshot, policy, version, options])
    removed = removed.cast(pa.schema([("track_id", pa.string())]))
    return Plan(plan_rows(todo), removed, counts, version, key, model_id, features_id)


def plan_rows(table: pa.Table) -> pa.Table:
    """Rows that came out of a query as `PLAN`."""
    return table.select(PLAN.names).cast(PLAN)
