"""Embeddings of tracks whose genre a catalog knows.

Axes: N tracks, D numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from numpy.typing import NDArray

from cluster.embeddings.table import EmbeddingsTable
from cluster.embeddings.vectors import ONE_AT_A_TIME, REMEDY, VECTORS_AT_ONCE, Model, present, read_vectors
from cluster.tables.parquet import reading
from mgc.datasets.splits import TEST
from mgc.errors import CatalogError, LabelsError
from mgc.units import format_count

MOST_TRACKS: Final = 100_000
"""More labels than this teach a linear head nothing, and would have to fit into memory."""


@dataclass(frozen=True, eq=False)
class LabelledEmbeddings:
    """Tracks with an embedding and a known genre.

    Attributes:
        rows: `track_id`, `genre_top` and `artist_id` (null where unknown), in order of track id.
        embedding_ND: float32 embeddings, in the same order.
        counts: tracks by what became of them: `labelled` in the catalog, `without_embedding`, `test` (left out since
            they are of the test side), `left_out` (beyond `MOST_TRACKS`), `without_artist`.
    """

    rows: pa.Table
    embedding_ND: NDArray[np.float32]  # noqa: N815  (axes in capitals)
    counts: dict[str, int]


def read_labelled(
    table: EmbeddingsTable, model: Model, tracks: pads.Dataset | pa.Table, where: str, seed: int, remedy: str
) -> LabelledEmbeddings:
    """Join a catalog's genres with embeddings.

    Args:
        table: table of embeddings.
        model: what made the embeddings that are wanted.
        tracks: rows of a catalog.
        where: the catalog, for messages.
        seed: seed of the choice among more than `MOST_TRACKS` tracks.
        remedy: what to do if there is no embedding, for the message.

    Raises:
        CatalogError: no track of the catalog has a genre, or all that have one are of the test side.
        LabelsError: none of those that have one has an embedding of this model.
    """
    known = _read_genres(tracks)
    counts = {"labelled": known.num_rows}
    if not known.num_rows:
        raise CatalogError(
            f"{where}: no track has a genre (column genre_top), so there is nothing to learn from; read the files' own "
            "tags with `mgc catalog SOURCE --tags --out CATALOG`, or add genres with --metadata."
        )
    held = pc.fill_null(pc.equal(known["split"], TEST), False)
    counts["test"] = pc.sum(held).as_py() or 0
    known = known.filter(pc.invert(held))
    if not known.num_rows:
        raise CatalogError(
            f"{where}: every labelled track is of the test side (column split), which teaches nothing; label tracks of "
            "another side."
        )
    counts["left_out"] = max(0, known.num_rows - MOST_TRACKS)
    if counts["left_out"]:
        chosen = np.sort(np.random.default_rng(seed).permutation(known.num_rows)[:MOST_TRACKS])
        known = known.take(pa.array(chosen))
    ids, embedding_ND = _read_embeddings(table, model, known["track_id"].combine_chunks())
    counts["without_embedding"] = known.num_rows - len(ids)
    if not len(ids):
        raise LabelsError(
            f"{table.uri}: of {format_count(known.num_rows, 'labelled track')} of {where}, none has an embedding of "
            f"bundle {model.model_id}; {remedy}."
        )
    rows = known.take(pc.index_in(ids, value_set=known["track_id"].combine_chunks()))
    rows = rows.select(["track_id", "genre_top", "artist_id"])
    order = pc.sort_indices(rows["track_id"])
    rows, embedding_ND = rows.take(order), embedding_ND[order.to_numpy()]
    counts["without_artist"] = rows["artist_id"].null_count
    return LabelledEmbeddings(rows, embedding_ND, counts)


def _read_genres(tracks: pads.Dataset | pa.Table) -> pa.Table:
    """Return `track_id`, `genre_top`, `artist_id` and `split` of the tracks with a genre; "" becomes null."""
    names = ["track_id", "genre_top", "artist_id", "split"]
    rows = tracks.select(names) if isinstance(tracks, pa.Table) else tracks.to_table(columns=names)
    columns = {name: rows[name].cast(pa.string()) for name in names}
    cleaned = {
        name: pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)
        for name, column in columns.items()
    }
    table = pa.table(cleaned)
    return table.filter(pc.is_valid(table["genre_top"]))


def _read_embeddings(table: EmbeddingsTable, model: Model, wanted: pa.Array) -> tuple[pa.Array, NDArray[np.float32]]:
    """Return ids and embeddings of the wanted tracks that have one."""
    ids: list[pa.Array] = []
    parts: list[NDArray[np.float32]] = []
    with reading(table.uri, REMEDY, LabelsError):
        scan = table.dataset().to_batches(
            columns=["track_id", "embedding"], filter=present(model), batch_size=VECTORS_AT_ONCE, **ONE_AT_A_TIME
        )
        for batch in scan:
            found = batch.filter(pc.is_in(batch["track_id"].cast(pa.string()), value_set=wanted))
            if found.num_rows:
                ids.append(found["track_id"].cast(pa.string()))
                width = parts[0].shape[1] if parts else None
                parts.append(read_vectors(found["embedding"], table.uri, width))
    if not ids:
        return pa.array([], pa.string()), np.empty((0, 0), np.float32)
    return pa.concat_arrays(ids), np.concatenate(parts)
