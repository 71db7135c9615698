"""Foresee what a commit would change, and the table that it would leave."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import duckdb

from cluster.labels.plan import Plan
from cluster.labels.rows import STAGED, USABLE, rows_of
from mgc import schema
from mgc.labeling.guard import Outlook

_PRESENT: Final = f"status = '{schema.LABELED}' AND removed_at IS NULL"

# One scan for all that is asked of the tracks to label. `top_k` takes most of the time, and few rows need it.
_KNOWN: Final = """
    CREATE OR REPLACE TEMP TABLE known AS
    SELECT track_id, status, removed_at, stale_since, error_kind, model_id, features_id, genre_top,
        override_by IS NOT NULL AS corrected
    FROM touched SEMI JOIN todo USING (track_id)
"""

# A track that is back counts with the others, or a night of returning tracks would pass unseen.
_LABELS: Final = f"""
    SELECT (SELECT count(*) FROM labels WHERE {_PRESENT})
        + (SELECT count(*) FROM known WHERE status = '{schema.LABELED}' AND removed_at IS NOT NULL)
"""

_STALE: Final = f"""
    SELECT count(*) FROM known SEMI JOIN kept USING (track_id)
    WHERE stale_since IS NULL AND status = '{schema.LABELED}'
"""

# The genre of a corrected track is the curator's; the model's stands first in `top_k`.
_FLIPS: Final = f"""
    WITH heard AS (SELECT track_id, model_id, features_id, genre_top FROM ({STAGED}) WHERE error_kind IS NULL),
        answers AS (SELECT track_id, top_k[1].genre AS genre FROM corrections SEMI JOIN heard USING (track_id))
    SELECT l.model_id = s.model_id AND l.features_id = s.features_id AS same_model, count(*),
        count(*) FILTER (s.genre_top <> CASE WHEN l.corrected THEN a.genre ELSE l.genre_top END)
    FROM heard s JOIN known l ON l.track_id = s.track_id LEFT JOIN answers a ON a.track_id = s.track_id
    WHERE l.error_kind IS NULL
    GROUP BY 1
"""

# Numbers and quoted names differ from track to track although the cause is the same.
_CAUSES: Final = rf"""
    SELECT left(error_kind || ': ' || regexp_replace(error_message, '[0-9]+|''[^'']*''', '#', 'g'), 200) AS cause,
        count(*) AS tracks
    FROM {USABLE} SEMI JOIN (FROM finished WHERE NOT labeled) USING (track_id)
    WHERE error_kind IS NOT NULL GROUP BY 1 ORDER BY tracks DESC, cause LIMIT 1
"""


def foresee(connection: duckdb.DuckDBPyConnection, plan: Plan) -> Outlook:
    """Return what the commit of a plan's staged rows would change.

    Args:
        connection: connection with the tables of `cluster.labels.rows`.
        plan: the run's plan.
    """
    [(tried, failed)] = connection.sql("SELECT count(*), count(*) FILTER (NOT labeled) FROM finished").fetchall()
    cause, same_cause = (connection.sql(_CAUSES).fetchall() or [("", 0)])[0] if failed else ("", 0)
    if plan.version < 0:
        return Outlook(tried=tried, same_cause=same_cause, cause=cause)
    connection.execute(_KNOWN)
    [(stale,)] = connection.sql(_STALE).fetchall() if failed else [(0,)]
    removed = 0
    if plan.removed.num_rows:
        left = f"SELECT count(*) FROM touched SEMI JOIN removed USING (track_id) WHERE {_PRESENT}"
        [(removed,)] = connection.sql(left).fetchall()
    # Nothing is a share of it otherwise, and it is in every file.
    [(labels,)] = connection.sql(_LABELS).fetchall() if stale or removed else [(0,)]
    flips = {}
    if tried > failed:
        flips = {bool(same): (count, flipped) for same, count, flipped in connection.sql(_FLIPS).fetchall()}
    relabeled, flipped = flips.get(True, (0, 0))
    relabeled_new_model, flips_new_model = flips.get(False, (0, 0))
    return Outlook(
        labels, stale, removed, relabeled, flipped, relabeled_new_model, flips_new_model, tried, same_cause, cause,
        *_corrections(connection, plan),
    )  # fmt: skip


def _corrections(connection: duckdb.DuckDBPyConnection, plan: Plan) -> tuple[int, int, int]:
    """Return the corrections in the table, those that would be withdrawn, and those in the given file."""
    if plan.policy.overrides is None:
        return 0, 0, 0
    counts = "count(*), count(*) FILTER (track_id NOT IN (SELECT track_id FROM overriding))"
    [(standing, withdrawn)] = connection.sql(f"SELECT {counts} FROM corrections").fetchall()
    return standing, withdrawn, plan.policy.overrides.num_rows


def present_foreseen(connection: duckdb.DuckDBPyConnection, plan: Plan, at: datetime) -> None:
    """Replace the table `labels` of the connection by the one that the commit would leave.

    Args:
        connection: connection with the tables of `cluster.labels.rows`.
        plan: the run's plan.
        at: aware time; the `removed_at` of tracks that left the catalog.
    """
    [(kept,)] = connection.sql("SELECT count(*) FROM kept").fetchall()
    times = {"at": at.astimezone(UTC).isoformat()} if plan.removed.num_rows else {}
    columns = ", ".join(schema.LABELS.names)
    connection.execute(f"CREATE TEMP TABLE entered AS {rows_of(plan, kept)}", times)
    connection.execute(
        f"CREATE TEMP TABLE foreseen AS SELECT {columns} FROM labels ANTI JOIN entered USING (track_id) "
        f"UNION ALL SELECT {columns} FROM entered"
    )
    connection.unregister("labels")
    connection.execute("CREATE TEMP VIEW labels AS FROM foreseen")
