"""Rows of the tables of labels and of embeddings, from the batches of the jobs that hear tracks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mgc import schema
from mgc.errors import LabelsError
from mgc.labeling.decide import Ranked
from mgc.labeling.retries import next_try_at


@dataclass(frozen=True)
class Lineage:
    """The origin of a run's rows.

    Attributes:
        model_id: id of the bundle, or of its embeddings.
        features_id: id of its front end.
        run_id: id of the run.
    """

    model_id: str
    features_id: str
    run_id: str


def labels_rows(batch: dict[str, np.ndarray], lineage: Lineage, labeled_at: datetime) -> pa.Table:
    """Return rows of `schema.LABELS`: labeled for an answer, quarantined for an error.

    Args:
        batch: output of `Extract` and `Predict`: one row per track, with `tries` (earlier tries of the same bytes).
        lineage: lineage to write into every row.
        labeled_at: aware time of the decision.

    Raises:
        LabelsError: a row has neither an answer nor an error, or both. The job must not commit it.
        ValueError: `labeled_at` has no time zone.
    """
    if labeled_at.tzinfo is None:
        raise ValueError(f"labeled_at {labeled_at} has no time zone")
    tracks = len(batch["track_id"])
    labeled = np.array([genre is not None for genre in batch["genre_top"]], dtype=bool)
    failed = np.array([kind is not None for kind in batch["error_kind"]], dtype=bool)
    if (labeled == failed).any():
        track = batch["track_id"][int(np.flatnonzero(labeled == failed)[0])]
        raise LabelsError(f"track {track} has both an answer and an error, or neither: a bug in mgc; please report it.")
    tries = [int(earlier) + 1 for earlier in batch["tries"]]
    columns: dict[str, object] = {
        "track_id": batch["track_id"],
        "uri": batch["uri"],
        "content_tag": batch["content_tag"],
        "status": np.where(labeled, schema.LABELED, schema.QUARANTINED),
        "genre_top": batch["genre_top"],
        "confidence": batch["confidence"],
        "top_k": [_top_k(ranked) for ranked in batch["top_k"]],
        "duration_seconds": batch["duration_seconds"],
        "tolerance_seconds": batch["tolerance_seconds"],
        "decoder": batch["decoder"],
        "seconds_listened": batch["seconds_listened"],
        "bandwidth_hz": batch["bandwidth_hz"],
        "error_kind": batch["error_kind"],
        "error_message": batch["error_message"],
        "error_offset": batch["error_offset"],
        "damage": batch["damage"],
        "tries": tries,
        "next_try_at": [
            next_try_at(kind, count, labeled_at) for kind, count in zip(batch["error_kind"], tries, strict=True)
        ],
        "model_id": [lineage.model_id] * tracks,
        "features_id": [lineage.features_id] * tracks,
        "run_id": [lineage.run_id] * tracks,
        "labeled_at": [labeled_at] * tracks,
    }
    arrays = [
        pa.array(columns[field.name], type=field.type, from_pandas=True)
        if field.name in columns
        else pa.nulls(tracks, field.type)
        for field in schema.LABELS
    ]
    return pa.table(arrays, schema=schema.LABELS)


def _top_k(ranked: Ranked | None) -> list[dict[str, str | float]] | None:
    if ranked is None:
        return None
    return [{"genre": genre, "probability": probability} for genre, probability in ranked]


EMBEDDED: Final = (pa.field("embedding", pa.list_(pa.float32())), pa.field("windows", pa.int32()))
"""Columns that `with_embeddings` adds."""


def with_embeddings(rows: pa.Table, batch: dict[str, np.ndarray]) -> pa.Table:
    """Return label rows with `EMBEDDED`: for each track that could be heard, also if the network hears no music in it.

    Args:
        rows: rows of `schema.LABELS`, from `labels_rows`.
        batch: output of a `Predict` that embeds, of the same tracks.

    Raises:
        LabelsError: a labelled track has no embedding, or one with a number out of range.
    """
    labeled = [status == schema.LABELED for status in rows["status"].to_pylist()]
    heard = [embedding is not None for embedding in batch["embedding"]]
    for track, needed, embedding in zip(batch["track_id"], labeled, batch["embedding"], strict=True):
        missing = needed if embedding is None else not (np.abs(embedding) <= schema.LARGEST_NUMBER).all()
        if missing:
            raise LabelsError(
                f"track {track} has no embedding of numbers up to {schema.LARGEST_NUMBER:g}; train the bundle again."
            )
    columns = (
        [value if has else None for has, value in zip(heard, batch[field.name], strict=True)] for field in EMBEDDED
    )
    for field, values in zip(EMBEDDED, columns, strict=True):
        rows = rows.append_column(field, pa.array(values, field.type))
    return rows


def embeddings_rows(rows: pa.Table, lineage: Lineage) -> pa.Table:
    """Return rows of `schema.EMBEDDINGS`, from label rows with `EMBEDDED`.

    What the network hears does not count: a track that it finds to be no music has an embedding like any other. So the
    words in which a bundle answers never change an embedding.

    Args:
        rows: output of `with_embeddings`.
        lineage: lineage to write into every row; its `model_id` is that of the embeddings.
    """
    arrays = {name: rows[name] for name in rows.column_names}
    heard = pc.is_valid(rows["windows"])
    for name in ("error_kind", "error_message", "error_offset", "next_try_at"):
        arrays[name] = pc.if_else(heard, pa.scalar(None, rows.schema.field(name).type), rows[name])
    origin = {"model_id": lineage.model_id, "features_id": lineage.features_id, "run_id": lineage.run_id}
    arrays |= {name: pa.repeat(pa.scalar(value), rows.num_rows) for name, value in origin.items()}
    arrays["embedded_at"] = rows["labeled_at"]
    return pa.table([arrays[name] for name in schema.EMBEDDINGS.names], schema=schema.EMBEDDINGS)
