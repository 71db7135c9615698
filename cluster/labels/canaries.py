"""Choose canaries from a labels table: tracks with a label, spread over the catalog's folders."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.dataset as pads

from cluster.labels.plan import PLAN
from cluster.tables.duckdb import AS_WRITTEN, open_duckdb
from mgc import schema
from mgc.labeling.canary import CANARIES, FEWEST_CANARIES, Canary

_SAMPLED: Final = 20_000
"""Rows of the table to choose from. A sort of ten million rows would cost more than the canaries."""

_CHOSEN: Final = f"""
    WITH sampled AS (
        SELECT track_id, uri, content_tag, model_id = $model AND features_id = $features AS comparable, confidence,
            CASE WHEN override_by IS NULL THEN genre_top ELSE top_k[1].genre END AS genre
        FROM (
            SELECT * FROM labels WHERE status = '{schema.LABELED}' AND error_kind IS NULL AND stale_since IS NULL
                AND isfinite(confidence) {{same_model}}
        ) USING SAMPLE reservoir({_SAMPLED} ROWS) REPEATABLE (17)
    ), there AS (
        SELECT s.*, c.size_bytes, regexp_extract(s.uri, '^(.*)/', 1) AS folder
        FROM catalog c JOIN sampled s ON c.track_id = s.track_id AND c.uri = s.uri AND c.content_tag = s.content_tag
    )
    SELECT *, row_number() OVER (PARTITION BY folder ORDER BY hash(track_id)) AS place
    FROM there ORDER BY place, hash(folder), track_id LIMIT {CANARIES}
"""


def choose_canaries(
    catalog: pads.Dataset | pa.Table, labels: pads.Dataset, model_id: str, features_id: str
) -> tuple[pa.Table, list[Canary]]:
    """Choose tracks whose bytes are those of their label.

    Chooses tracks that the model in use has labelled. If there are too few, it chooses among all labels: those tracks
    only show whether they can be heard.

    Args:
        catalog: rows of `schema.CATALOG`.
        labels: rows of `schema.LABELS`.
        model_id: id of the bundle in use.
        features_id: id of its front end.

    Returns:
        Rows of `PLAN` to hear, and what is known of them, in the same order. Both are empty where there are fewer than
        `FEWEST_CANARIES` such tracks.
    """
    ids = {"model": model_id, "features": features_id}
    with open_duckdb(AS_WRITTEN) as connection:
        connection.register("labels", labels)
        connection.register("catalog", catalog)
        for same_model in ("AND model_id = $model AND features_id = $features", ""):
            query = _CHOSEN.format(same_model=same_model)
            found = connection.sql(query, params=ids).to_arrow_table()
            if found.num_rows >= FEWEST_CANARIES:
                break
    if found.num_rows < FEWEST_CANARIES:
        return PLAN.empty_table(), []
    columns: dict[str, pa.ChunkedArray | pa.Array] = {name: found[name] for name in schema.CATALOG_REQUIRED}
    columns["reason"] = pa.array(["canary"] * found.num_rows)
    columns["tries"] = pa.array([0] * found.num_rows, pa.int32())
    names = ("track_id", "genre", "confidence", "comparable")
    known = [Canary(**row) for row in found.select(names).to_pylist()]
    return pa.table(columns).select(PLAN.names).cast(PLAN), known
