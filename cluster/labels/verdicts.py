"""The night's query: what becomes of each track of the catalog and of the labels table."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Verdict(IntEnum):
    """Verdict of the night's query on a track. Tracks from `NEW` to `RETRY` are labelled.

    `HELD` and `HELD_REMOVED` are tracks whose change a rollback undid (`cluster.labels.beside.holds`). The run leaves
    them alone.

    The numbers are used in the text of the query and as indices of an array. They are never stored.
    """

    UP_TO_DATE = 0
    NEW = 1
    CHANGED = 2
    OTHER_MODEL = 3
    RETRY = 4
    WAITING = 5
    HELD = 6
    REMOVED = 7
    LONG_REMOVED = 8
    HELD_REMOVED = 9

    @property
    def reason(self) -> str:
        """Name of the verdict in plans and counts."""
        return self.name.lower()


FORMER_REASONS: Final = {"stale": Verdict.OTHER_MODEL.reason}
"""Reasons in frozen plans and counts in logs of an older mgc, and what they are called now."""

TODO: Final = tuple(verdict.reason for verdict in Verdict if Verdict.NEW <= verdict <= Verdict.RETRY)
"""Reasons to label a track."""

# State of the tries of a known track, in the query below.
_SETTLED, _WAITS, _DUE = 0, 1, 2

_IS_TODO: Final = f"verdict BETWEEN {Verdict.NEW:d} AND {Verdict.RETRY:d}"

# DuckDB holds the labels' side of the join in memory, so that side is narrow: it keeps a hash of place and content. A
# changed track whose 64-bit hash happens to be the same is missed until it changes again. The columns are joined into
# one text first, because a hash of several columns does not change when two of them swap their contents. Every track
# yields a row; for up-to-date tracks all columns but the verdict and the snapshot are NULL.
# A stale label is compared by what its last try heard, so that a track that fails for good is not tried every night. A
# wait longer than any that mgc sets comes from a clock that was wrong, so it is over.
JUDGED: Final = f"""
    WITH known AS (
        SELECT track_id,
            hash(concat_ws(chr(31), coalesce(tried_uri, uri), coalesce(tried_content_tag, content_tag))) AS content,
            removed_at IS NOT NULL AS removed, {{corrected}} AS corrected,
            coalesce(tried_model_id, model_id) <> $model OR coalesce(tried_features_id, features_id) <> $features
                AS other_model,
            CASE WHEN coalesce(last_error_kind, error_kind) IS NULL THEN {_SETTLED}
                 WHEN $retry_all THEN {_DUE}
                 WHEN NOT list_contains($again, coalesce(last_error_kind, error_kind)) THEN {_SETTLED}
                 WHEN next_try_at > CAST($at AS TIMESTAMPTZ) AND next_try_at <= CAST($latest AS TIMESTAMPTZ)
                     THEN {_WAITS}
                 ELSE {_DUE} END AS again,
            tries
        FROM labels
    ), wanted AS (
        SELECT track_id, uri, size_bytes, content_tag, hash(concat_ws(chr(31), uri, content_tag)) AS content
        FROM catalog
    ), compared AS (
        SELECT w.*, k.track_id AS known_id, k.content AS known_content, k.tries AS failed,
            CASE WHEN w.track_id IS NULL
                     -- Pruning spares a removed track's correction, and so its row.
                     THEN CASE WHEN removed AND (corrected OR NOT $prune) THEN {Verdict.LONG_REMOVED:d}
                               ELSE {Verdict.REMOVED:d} END
                 WHEN k.track_id IS NULL OR removed THEN {Verdict.NEW:d}
                 WHEN k.content <> w.content THEN {Verdict.CHANGED:d}
                 WHEN other_model THEN {Verdict.OTHER_MODEL:d}
                 WHEN again = {_DUE} THEN {Verdict.RETRY:d}
                 WHEN again = {_WAITS} THEN {Verdict.WAITING:d}
                 ELSE {Verdict.UP_TO_DATE:d} END AS verdict
        FROM wanted w FULL JOIN known k ON w.track_id = k.track_id
    ), judged AS ({{judged}})
    SELECT CAST(verdict AS UTINYINT) AS verdict,
        CASE WHEN {_IS_TODO} THEN track_id WHEN verdict = {Verdict.REMOVED:d} THEN known_id END AS track_id,
        CASE WHEN {_IS_TODO} THEN uri END AS uri,
        CASE WHEN {_IS_TODO} THEN size_bytes END AS size_bytes,
        CASE WHEN {_IS_TODO} THEN content_tag END AS content_tag,
        CASE WHEN verdict = {Verdict.RETRY:d} THEN failed ELSE 0 END AS tries,
        CASE WHEN {_IS_TODO} THEN known_id IS NOT NULL END AS known,
        CASE WHEN verdict < {Verdict.REMOVED:d}
             THEN hash(concat_ws(chr(31), track_id, uri, size_bytes, content_tag)) END AS snapshot
    FROM judged
"""

ALL_COMPARED: Final = "FROM compared"
# Few nights follow a rollback; only those pay for these joins.
WITHOUT_HELD: Final = f"""
    SELECT c.* EXCLUDE (verdict),
        CASE WHEN h.track_id IS NOT NULL THEN {Verdict.HELD:d}
             WHEN r.track_id IS NOT NULL THEN {Verdict.HELD_REMOVED:d}
             ELSE verdict END AS verdict
    FROM compared c
    LEFT JOIN (SELECT track_id, content, bool_and(failed) AS failed FROM held
               WHERE NOT removed AND model_id = $model AND features_id = $features GROUP BY ALL) h
        ON c.track_id = h.track_id AND c.content = h.content
        AND (verdict BETWEEN {Verdict.NEW:d} AND {Verdict.OTHER_MODEL:d}
             OR (verdict = {Verdict.RETRY:d} AND NOT h.failed))
    LEFT JOIN (SELECT DISTINCT track_id, content FROM held WHERE removed) r
        ON c.known_id = r.track_id AND c.known_content = r.content AND verdict = {Verdict.REMOVED:d}
"""
