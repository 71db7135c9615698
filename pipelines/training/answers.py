"""Answers of heads for tracks, as a table.

Axes: N tracks, G genres.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from mgc import schema
from mgc.labeling.decide import decide

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


def answers_of(track_ids: list[str], logits_NG: np.ndarray, genres: tuple[str, ...]) -> pa.Table:
    """Return rows of `ANSWERS` for the logits of tracks."""
    decisions = [decide(logits_G[None], genres, TOP_K) for logits_G in logits_NG]
    columns = {
        "track_id": track_ids,
        "ears_genre": [found.genre_top for found in decisions],
        "confidence": [found.confidence for found in decisions],
        "top_k": [[{"genre": genre, "probability": share} for genre, share in found.top_k] for found in decisions],
    }
    return pa.table(columns, schema=ANSWERS)
