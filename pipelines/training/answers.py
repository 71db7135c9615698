"""Answers of heads for tracks, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from mgc import schema
from mgc.labeling.decide import Decision

TOP_K: Final = 3

ANSWERS: Final = pa.schema(
    [
        pa.field("track_id", pa.string()),
        pa.field("ears_genre", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("top_k", schema.TOP_K),
    ]
)
"""Answers of heads."""


def answers_of(track_ids: Sequence[str], decisions: Sequence[Decision]) -> pa.Table:
    """Return rows of `ANSWERS`.

    Args:
        track_ids: the tracks.
        decisions: the answer for each.
    """
    columns = {
        "track_id": track_ids,
        "ears_genre": [found.genre_top for found in decisions],
        "confidence": [found.confidence for found in decisions],
        "top_k": [[{"genre": genre, "probability": share} for genre, share in found.top_k] for found in decisions],
    }
    return pa.table(columns, schema=ANSWERS)
