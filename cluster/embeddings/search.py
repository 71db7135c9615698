"""Find the tracks whose embeddings are most like that of a given one.

Axes: N tracks of a batch, D numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.embeddings.table import EmbeddingsTable
from cluster.embeddings.vectors import ONE_AT_A_TIME, REMEDY, VECTORS_AT_ONCE, Model, present, unit_vectors
from cluster.labels.log import files_that_may_hold
from cluster.tables.parquet import reading
from mgc.errors import LabelsError


@dataclass(frozen=True)
class Neighbour:
    """A track that sounds like another one.

    Attributes:
        track_id: its id.
        uri: its file.
        similarity: cosine of the angle between both embeddings, from -1 to 1.
        duration_seconds: its length; None if it is unknown.
    """

    track_id: str
    uri: str
    similarity: float
    duration_seconds: float | None


def find_similar(table: EmbeddingsTable, track_id: str, top: int) -> list[Neighbour]:
    """Return the tracks most like a given one, the most similar first.

    The table streams past, so it may be larger than the memory. Tracks that left the catalog, and embeddings of another
    model, are left out.

    Args:
        table: the table.
        track_id: the track.
        top: largest number of tracks to return.

    Raises:
        LabelsError: the table has no such track, or no embedding of it, the track left the catalog, or the table cannot
            be read.
    """
    model, unit_D = _of_track(table, track_id)
    best: list[Neighbour] = []
    columns = ["track_id", "uri", "duration_seconds"]
    with reading(table.uri, REMEDY, LabelsError):
        batches = table.dataset().to_batches(
            columns=[*columns, "embedding"],
            filter=present(model),
            batch_size=VECTORS_AT_ONCE,
            **ONE_AT_A_TIME,
        )
        for batch in batches:
            if not batch.num_rows:
                continue
            units_ND = unit_vectors(batch["embedding"], table.uri, len(unit_D))
            similarity_N = np.clip(units_ND @ unit_D, -1.0, 1.0)
            similarity_N[pc.equal(batch["track_id"], track_id).to_numpy(zero_copy_only=False)] = -np.inf
            count = min(top, len(similarity_N))
            least = np.partition(similarity_N, -count)[-count]
            # With all that are as good as the last one, so that the order of the files does not decide.
            chosen = np.flatnonzero((similarity_N >= least) & np.isfinite(similarity_N))
            rows = batch.select(columns).take(pa.array(chosen)).to_pylist()
            found = [
                Neighbour(row["track_id"], row["uri"], float(similarity), row["duration_seconds"])
                for row, similarity in zip(rows, similarity_N[chosen], strict=True)
            ]
            best = sorted([*best, *found], key=lambda each: (-each.similarity, each.track_id))[:top]
    return best


def _of_track(table: EmbeddingsTable, track_id: str) -> tuple[Model, np.ndarray]:
    """Return the model of a track's embedding, and its unit vector: float32 (numbers,)."""
    columns = ["embedding", "error_kind", "error_message", "model_id", "features_id", "removed_at"]
    with reading(table.uri, REMEDY, LabelsError):
        # The embeddings are read only of files that may have the track.
        names = files_that_may_hold(table.delta, [pa.chunked_array([[track_id]])])
        rows = pa.Table.from_batches(
            table.dataset(names).to_batches(
                columns=columns,
                filter=pc.field("track_id").cast(pa.string()) == track_id,
                batch_size=VECTORS_AT_ONCE,
                **ONE_AT_A_TIME,
            ),
            pa.schema([table.form.columns.field(name) for name in columns]),
        )
    if not rows.num_rows:
        raise LabelsError(
            f"{table.uri}: there is no track {track_id!r}; a track id is the path of the file below SOURCE, as in the "
            "catalog."
        )
    row = rows.select(columns[1:]).to_pylist()[0]
    if row["removed_at"] is not None:
        gone_at = f"{row['removed_at']:%Y-%m-%d %H:%M}"
        raise LabelsError(
            f"{table.uri}: the track {track_id!r} left the catalog; a run found it gone on {gone_at} UTC. Name a track "
            "that the catalog has."
        )
    if rows["embedding"][0].as_py() is None:
        raise LabelsError(
            f"{table.uri}: the track {track_id!r} has no embedding ({row['error_kind']}: {row['error_message']})."
        )
    unit_D = unit_vectors(rows["embedding"].combine_chunks(), table.uri)[0]
    return Model(row["model_id"], row["features_id"]), unit_D
