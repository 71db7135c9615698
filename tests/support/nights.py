"""Nights without Ray: labels tables planned, staged and committed by hand, for tests of what comes of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.embeddings.table import EmbeddingsTable
from cluster.labels.plan import Plan, PlanRequest
from cluster.labels.policy import Policy
from cluster.labels.runs.table import RunTable
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from cluster.tables.parquet import write_part
from mgc import schema
from mgc.errors import LabelsError, MgcError
from mgc.labeling.rows import Lineage, embeddings_rows, labels_rows, with_embeddings

MODEL, FEATURES = "model-1", "features-1"
NOW = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
LABEL = "a label"
"""What becomes of a track, where it is not one of `ErrorKind`. "a label: Jazz" is Jazz; else it is Rock."""


def catalog(tracks: dict[str, str], folder: str = "s3://music") -> pa.Table:
    """A catalog from track id → content tag."""
    rows = [
        {"track_id": track, "uri": f"{folder}/{track}.mp3", "size_bytes": len(tag), "content_tag": tag}
        for track, tag in sorted(tracks.items())
    ]
    return pa.Table.from_pylist(rows, schema=schema.CATALOG)


def planned(table: RunTable, tracks: dict[str, str], model: str = MODEL, **options: Any) -> Plan:
    """A plan; `limit`, `features`, `at`, `policy` and `unreadable` are those of `PlanRequest`.

    Other options go into its key.
    """
    limit, features = options.pop("limit", None), options.pop("features", FEATURES)
    at, policy = options.pop("at", None) or datetime.now(UTC), options.pop("policy", None) or Policy()
    unreadable = tuple(options.pop("unreadable", ()))
    return table.plan(catalog(tracks), PlanRequest(model, features, limit, options, policy, at, unreadable=unreadable))


def heard(rows: pa.Table, plan: Plan, outcomes: dict[str, str] | None = None, at: datetime = NOW) -> pa.Table:
    """Label rows, made by the stage that makes them in the job."""
    kinds = [(outcomes or {}).get(track, LABEL) for track in rows["track_id"].to_pylist()]
    labeled = [kind.startswith(LABEL) for kind in kinds]
    genres = [kind.removeprefix(LABEL).removeprefix(": ") or "Rock" for kind in kinds]

    def top(genre: str) -> tuple[tuple[str, float], ...]:
        return (genre, 0.75), ("Jazz" if genre == "Rock" else "Rock", 0.25)

    def objects(values: Iterable[Any]) -> np.ndarray:
        column = np.empty(len(kinds), dtype=object)
        column[:] = list(values)
        return column

    batch = {
        **{name: objects(rows[name].to_pylist()) for name in ("track_id", "uri", "content_tag")},
        "tries": rows["tries"].to_numpy(),
        "genre_top": objects(genre if ok else None for genre, ok in zip(genres, labeled, strict=True)),
        "confidence": np.where(labeled, 0.75, np.nan),
        "top_k": objects(top(genre) if ok else None for genre, ok in zip(genres, labeled, strict=True)),
        "duration_seconds": np.where(labeled, 31.5, np.nan),
        "seconds_listened": np.where(labeled, 30.0, np.nan),
        "tolerance_seconds": np.where(labeled, 0.0, np.nan),
        "bandwidth_hz": np.where(labeled, 16000.0, np.nan),
        "decoder": objects("soundfile" if ok else None for ok in labeled),
        "damage": objects(None for _ in kinds),
        "error_kind": objects(None if ok else kind for ok, kind in zip(labeled, kinds, strict=True)),
        "error_message": objects(None if ok else "no good" for ok in labeled),
        "error_offset": objects(None if ok else 4 for ok in labeled),
    }
    return labels_rows(batch, lineage_of(plan), at)


def embedded(labels: pa.Table, plan: Plan, vectors: dict[str, list[float]] | None = None) -> pa.Table:
    """Rows of embeddings beside label rows, as the sink makes them; `vectors` are those of some tracks.

    A track that failed could not be heard.
    """
    tracks = labels["track_id"].to_pylist()
    batch = {"track_id": np.array(tracks, object), "embedding": np.empty(len(tracks), object)}
    for place, (track, kind) in enumerate(zip(tracks, labels["error_kind"].to_pylist(), strict=True)):
        if kind is None:
            batch["embedding"][place] = np.array((vectors or {}).get(track, [1.0, float(place)]), np.float32)
    batch["windows"] = np.full(len(tracks), 3, np.int32)
    return embeddings_rows(with_embeddings(labels, batch), lineage_of(plan))


def lineage_of(plan: Plan) -> Lineage:
    """What the rows of a plan say of their origin."""
    return Lineage(plan.model_id, plan.features_id, plan.key)


def embedding_night(
    uri: Uri,
    tracks: dict[str, str],
    outcomes: dict[str, str] | None = None,
    at: datetime = NOW,
    vectors: dict[str, list[float]] | None = None,
    **options: Any,
) -> Plan:
    """A whole run of a table of embeddings; see `night`."""
    table, about = EmbeddingsTable(uri), options.pop("about", None)
    plan = planned(table, tracks, at=options.pop("planned_at", None), **options)
    if not plan.empty:
        run = table.run(plan)
        run.freeze()
        if plan.todo.num_rows:
            write_part(run.staged_uri, embedded(heard(run.missing(), plan, outcomes, at), plan, vectors))
        table.commit(plan, plan.key, at, about)
    return plan


def stage(
    table: LabelsTable, plan: Plan, outcomes: dict[str, str] | None = None, files: int = 2, at: datetime = NOW
) -> None:
    """Stage what is missing, as several files."""
    rows = table.run(plan).missing()
    for first in range(0, rows.num_rows, step := max(1, -(-rows.num_rows // files))):
        write_part(table.run(plan).staged_uri, heard(rows.slice(first, step), plan, outcomes, at))


def night(
    uri: Uri, tracks: dict[str, str], outcomes: dict[str, str] | None = None, at: datetime = NOW, **options: Any
) -> Plan:
    """A whole run, labelled and finished at one time; planned at `planned_at`, by default when no track waits.

    `about` is what the table's history says of it.
    """
    table, about = LabelsTable(uri), options.pop("about", None)
    plan = planned(table, tracks, at=options.pop("planned_at", None), **options)
    if not plan.empty:
        table.run(plan).freeze()
        stage(table, plan, outcomes, at=at)
        table.commit(plan, plan.key, at, about)
    return plan


def held(uri: Uri, kind: type[RunTable] = LabelsTable) -> dict[str, dict[str, Any]]:
    """The table's rows by track; each track stands there once."""
    rows = kind(uri).dataset().to_table().to_pylist()
    by_track = {row["track_id"]: row for row in rows}
    assert len(by_track) == len(rows)
    return by_track


def reasons(plan: Plan) -> dict[str, str]:
    """Why each track is to be labelled."""
    return dict(zip(plan.todo["track_id"].to_pylist(), plan.todo["reason"].to_pylist(), strict=True))


def refusal(action: Any, *args: Any, error: type[MgcError] = LabelsError) -> str:
    """The one line of an error."""
    with pytest.raises(error) as caught:
        action(*args)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 700
    return line
