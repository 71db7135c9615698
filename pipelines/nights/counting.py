"""Count a version of the labels table for the report on a night.

Each function reads the tables `labels` and `previous` of a DuckDB connection in one pass, and `todo`, the tracks of the
run's plan.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow.compute as pc
import pyarrow.dataset as pads

from mgc import schema
from mgc.evaluation.night import (
    CONFIDENCE_BINS,
    Confidence,
    Flip,
    Flips,
    Override,
    Overrides,
    QuarantineRow,
)

QUARANTINE_SHOWN: Final = 200
"""Number of quarantined tracks that a report lists."""

EXAMPLES: Final = 5
"""Number of quarantined tracks of each kind that a report names."""

PAIRS_SHOWN: Final = 20
"""Number of pairs of genres, and of examples, that a report lists for flips and for overrides."""

Row = dict[str, Any]
"""Values of a query's row by column. Their types differ."""

# A table of ten million rows has a few thousand groups. `tries` includes this run's try. A correction makes a track
# that could not be decoded `labeled`, and keeps its error.
_GROUPS: Final = f"""
    SELECT run_id = $run AS own, status, genre_top AS genre, error_kind AS kind,
        override_by IS NOT NULL AS overridden, tries = 1 AS first,
        CASE WHEN stale_since IS NOT NULL THEN last_error_kind END AS stale,
        stale_since IS NOT NULL AND track_id IN (SELECT track_id FROM todo) AS kept,
        CASE WHEN isfinite(confidence) THEN CAST(
            greatest(0, least({CONFIDENCE_BINS - 1}, floor(confidence * {CONFIDENCE_BINS}))) AS INTEGER) END AS bin,
        count(*) AS tracks, sum(confidence) AS confidence
    FROM {{table}} WHERE removed_at IS NULL GROUP BY ALL
"""

# The run's rows, few on most nights, are the side that is held in memory. Texts of any length are hashed there.
_FLIPS: Final = f"""
    WITH mine AS (
        SELECT track_id, genre_top, confidence, hash(content_tag) AS content FROM labels
        WHERE run_id = $run AND status = '{schema.LABELED}' AND override_by IS NULL AND removed_at IS NULL
    ), earlier AS (
        SELECT track_id, genre_top, confidence, hash(content_tag) AS content FROM previous
        WHERE status = '{schema.LABELED}' AND override_by IS NULL AND removed_at IS NULL
    )
    SELECT e.genre_top AS before, m.genre_top AS after, e.content = m.content AS same_bytes, count(*) AS tracks,
        min_by(
            {{'track_id': track_id, 'before': before, 'after': after, 'confidence_before': e.confidence,
              'confidence_after': m.confidence}},
            (-coalesce(least(e.confidence, m.confidence), 0), track_id), {PAIRS_SHOWN}
        ) FILTER (WHERE before <> after) AS examples
    FROM earlier e JOIN mine m USING (track_id) GROUP BY ALL
"""

_QUARANTINED: Final = f"""
    SELECT error_kind AS kind,
        min_by(
            {{'track_id': track_id, 'uri': uri, 'error_kind': error_kind, 'error_message': error_message,
              'earlier': run_id <> $run}},
            (run_id <> $run, track_id), {QUARANTINE_SHOWN}
        ) AS rows
    FROM labels WHERE removed_at IS NULL AND status = '{schema.QUARANTINED}' GROUP BY 1
"""

_OVERRIDES: Final = f"""
    SELECT CASE WHEN error_kind IS NULL THEN top_k[1].genre END AS model_genre, genre_top AS genre, count(*) AS tracks,
        min_by(
            {{'track_id': track_id, 'genre': genre, 'model_genre': model_genre, 'by': override_by,
              'reason': override_reason}},
            track_id, {PAIRS_SHOWN}
        ) AS examples
    FROM labels WHERE removed_at IS NULL AND override_by IS NOT NULL GROUP BY 1, 2
"""


@dataclass(frozen=True)
class Counted:
    """Counts of one version of the table. The fields that begin with `run` count the run's rows."""

    genres: Counter[str]
    run_genres: Counter[str]
    quarantined: Counter[str]
    run_quarantined: Counter[str]
    first_tries: Counter[str]
    stale: Counter[str]
    overridden: int
    confidence: Confidence
    run_confidence: Confidence

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, table: str, run_id: str) -> Counted:
        """Count the rows of a version, which the connection knows under a name."""
        genres, run_genres, quarantined, run_quarantined, first_tries, stale = (Counter[str]() for _ in range(6))
        overridden = 0
        sure: list[Row] = []
        for group in _fetch(connection, _GROUPS.format(table=table), run=run_id):
            own, labeled = group["own"], group["status"] == schema.LABELED
            key, tracks = group["genre"] if labeled else group["kind"], group["tracks"]
            (genres if labeled else quarantined)[key] += tracks
            if own:
                (run_genres if labeled else run_quarantined)[key] += tracks
                if group["first"]:
                    first_tries[group["kind"] or ""] += tracks
            if group["kept"] and group["first"]:
                # The run tried these tracks, and they keep the row of an earlier run.
                first_tries[group["stale"]] += tracks
            if group["stale"]:
                stale[group["stale"]] += tracks
            if group["overridden"]:
                overridden += tracks
            elif group["bin"] is not None:
                sure.append(group)
        mine = [group for group in sure if group["own"]]
        return cls(
            genres,
            run_genres,
            quarantined,
            run_quarantined,
            first_tries,
            stale,
            overridden,
            _confidence(sure),
            _confidence(mine),
        )


def _confidence(groups: Sequence[Row]) -> Confidence:
    counts = [0] * CONFIDENCE_BINS
    for group in groups:
        counts[group["bin"]] += group["tracks"]
    total = math.fsum(group["confidence"] for group in groups)
    return Confidence(tuple(counts), total / sum(counts) if any(counts) else None)


def count_flips(connection: duckdb.DuckDBPyConnection, run_id: str) -> Flips:
    """Compare the run's answers in `labels` with those in `previous`."""
    groups = _fetch(connection, _FLIPS, run=run_id)
    pairs: Counter[tuple[str, str]] = Counter()
    for group in groups:
        if group["before"] != group["after"]:
            pairs[group["before"], group["after"]] += group["tracks"]
    examples = [Flip(**each) for group in groups for each in group["examples"] or ()]
    return Flips(
        compared=sum(group["tracks"] for group in groups),
        flipped=pairs.total(),
        compared_same_bytes=sum(group["tracks"] for group in groups if group["same_bytes"]),
        flipped_same_bytes=sum(
            group["tracks"] for group in groups if group["same_bytes"] and group["before"] != group["after"]
        ),
        pairs=_ranked_pairs(pairs),
        examples=sorted(
            examples,
            key=lambda flip: (-min(flip.confidence_before or 0.0, flip.confidence_after or 0.0), flip.track_id),
        )[:PAIRS_SHOWN],
    )


def list_quarantine(
    connection: duckdb.DuckDBPyConnection, labels: pads.Dataset | None, run_id: str
) -> dict[str, list[Row]]:
    """Return some quarantined tracks by kind of error.

    Args:
        connection: connection with `labels`.
        labels: the same rows as a dataset, which reads less; None if they are only in the connection.
        run_id: id of the run, whose tracks come first.
    """
    if labels is not None:
        connection.register("labels", labels.filter(pc.field("error_kind").is_valid()))
    return {group["kind"]: group["rows"] for group in _fetch(connection, _QUARANTINED, run=run_id)}


def quarantine_rows(quarantined: Sequence[Row], most: int) -> list[QuarantineRow]:
    """Return the first `most` tracks, those of the run before earlier ones."""
    ranked = sorted(quarantined, key=lambda row: (row["earlier"], row["track_id"]))[:most]
    names = [each.name for each in dataclasses.fields(QuarantineRow)]
    return [QuarantineRow(**{name: row[name] or "" for name in names}) for row in ranked]


def count_overrides(connection: duckdb.DuckDBPyConnection, labels: pads.Dataset | None) -> Overrides:
    """Compare the curators' corrections with the model's answers.

    Args:
        connection: connection with `labels`.
        labels: the same rows as a dataset, which reads less; None if they are only in the connection.
    """
    if labels is not None:
        # `top_k` is wide and corrections are few. Arrow skips files whose statistics show none.
        connection.register("labels", labels.filter(pc.field("override_by").is_valid()))
    groups = _fetch(connection, _OVERRIDES)
    pairs: Counter[tuple[str, str]] = Counter()
    examples: list[Override] = []
    agreed = unanswered = 0
    for group in groups:
        if group["model_genre"] == group["genre"]:
            agreed += group["tracks"]
            continue
        examples += [Override(**each) for each in group["examples"]]
        if group["model_genre"] is None:
            unanswered += group["tracks"]
        else:
            pairs[group["model_genre"], group["genre"]] += group["tracks"]
    return Overrides(
        total=agreed + pairs.total() + unanswered,
        agreed=agreed,
        disagreed=pairs.total(),
        unanswered=unanswered,
        pairs=_ranked_pairs(pairs),
        examples=sorted(examples, key=lambda override: override.track_id)[:PAIRS_SHOWN],
    )


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str, **values: str) -> list[Row]:
    rows: list[Row] = connection.sql(sql, params=values).to_arrow_table().to_pylist()
    return rows


def ranked(counts: Counter[str]) -> dict[str, int]:
    """Return the counts, most frequent first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _ranked_pairs(pairs: Counter[tuple[str, str]]) -> list[tuple[str, str, int]]:
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [(before, after, tracks) for (before, after), tracks in ranked[:PAIRS_SHOWN]]
