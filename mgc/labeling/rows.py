"""From the batches of the label job to rows of the labels table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from mgc import schema
from mgc.errors import LabelsError
from mgc.labeling.retries import next_try_at


@dataclass(frozen=True)
class Lineage:
    """What made the rows of a run.

    Attributes:
        model_id: the bundle's id.
        features_id: of its front end.
        run_id: of the run.
    """

    model_id: str
    features_id: str
    run_id: str


def labels_rows(batch: dict[str, np.ndarray], lineage: Lineage, labeled_at: datetime) -> pa.Table:
    """Rows with the schema `schema.LABELS`: labeled where there is an answer, quarantined where there is an error.

    Args:
        batch: what `Extract` and `Predict` leave: one row a track, with `tries` (earlier tries of the same bytes).
        lineage: written into every row.
        labeled_at: time of the decision, with its time zone.

    Raises:
        LabelsError: a row has neither an answer nor an error, or both; the job must not commit it.
        ValueError: `labeled_at` has no time zone.
    """
    if labeled_at.tzinfo is None:
        raise ValueError(f"labeled_at {labeled_at} has no time zone")
    tracks = len(batch["track_id"])
    labeled = np.array([genre is not None for genre in batch["genre_top"]], dtype=bool)
    failed = np.array([kind is not None for kind in batch["error_kind"]], dtype=bool)
    if (labeled == failed).any():
        track = batch["track_id"][int(np.flatnonzero(labeled == failed)[0])]
        raise LabelsError(f"track {track} has both an answer and an error, or neither: a bug of mgc, please report it.")
    tries = [int(earlier) + 1 for earlier in batch["tries"]]
    columns: dict[str, Any] = {
        "track_id": batch["track_id"],
        "uri": batch["uri"],
        "content_tag": batch["content_tag"],
        "status": np.where(labeled, schema.LABELED, schema.QUARANTINED),
        "genre_top": batch["genre_top"],
        "confidence": batch["confidence"],
        "top_k": [_top_k(text) for text in batch["top_k"]],
        "duration_seconds": batch["duration_seconds"],
        "decoder": batch["decoder"],
        "seconds_listened": batch["seconds_listened"],
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


def _top_k(text: str | None) -> list[dict[str, Any]] | None:
    if text is None:
        return None
    return [{"genre": genre, "probability": probability} for genre, probability in json.loads(text)]
