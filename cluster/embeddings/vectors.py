"""Read a table of embeddings as a stream of vectors, of which only a few thousand are in memory.

Axes: N tracks of a batch, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.embeddings.table import EmbeddingsTable
from cluster.storage.uri import Uri
from cluster.tables.parquet import reading
from mgc.errors import LabelsError

VECTORS_AT_ONCE: Final = 8_192
"""Embeddings in memory at a time: 40 MB if one has 1,280 numbers."""

REMEDY: Final = "Restore an earlier version, or embed the tracks again into another folder."


@dataclass(frozen=True)
class Model:
    """What made an embedding. Those of different models cannot be compared.

    Attributes:
        model_id: id of the bundle.
        features_id: id of its front end.
    """

    model_id: str
    features_id: str


def present(model: Model) -> pc.Expression:
    """Return the condition for a track that the catalog has and that has an embedding of a model."""
    # The casts are for Delta's statistics, which pyarrow cannot compare with a `string_view`.
    same = (pc.field("model_id").cast(pa.string()) == model.model_id) & (
        pc.field("features_id").cast(pa.string()) == model.features_id
    )
    return same & pc.field("windows").is_valid() & pc.field("removed_at").is_null()


def stream(table: EmbeddingsTable, model: Model, *columns: str) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Yield rows with an embedding of a model, and the embeddings as unit vectors: float32 (tracks, numbers).

    Args:
        table: the table.
        model: whose embeddings.
        columns: columns of the rows.

    Raises:
        LabelsError: a file cannot be read, or the embeddings differ in length.
    """
    numbers: int | None = None
    with reading(table.uri, REMEDY, LabelsError):
        # Readahead is for many small files; with large ones it only takes memory.
        scanner = table.dataset().scanner(
            [*columns, "embedding"],
            filter=present(model),
            batch_size=VECTORS_AT_ONCE,
            batch_readahead=1,
            fragment_readahead=1,
        )
        for batch in scanner.to_batches():
            if batch.num_rows:
                units_ND = unit_vectors(batch["embedding"], table.uri)
                if numbers is not None and units_ND.shape[1] != numbers:
                    raise _unequal(table.uri)
                numbers = units_ND.shape[1]
                yield batch, units_ND


def unit_vectors(embeddings: pa.Array, uri: Uri) -> np.ndarray:
    """Return embeddings divided by their lengths: float32 (tracks, numbers). One of zeros stays as it is.

    Args:
        embeddings: lists of numbers, at least one, none of them null.
        uri: the table, for the message.

    Raises:
        LabelsError: they differ in length.
    """
    lengths = pc.list_value_length(embeddings).to_numpy()
    if lengths.min() != lengths.max():
        raise _unequal(uri)
    values_ND = pc.list_flatten(embeddings).to_numpy(zero_copy_only=False).reshape(len(lengths), -1)
    norms_N = np.sqrt(np.einsum("nd,nd->n", values_ND, values_ND, dtype=np.float64))
    units_ND: np.ndarray = (values_ND / np.where(norms_N > 0, norms_N, 1.0)[:, None]).astype(np.float32)
    return units_ND


def _unequal(uri: Uri) -> LabelsError:
    return LabelsError(f"{uri}: embeddings of one model differ in length, which no run of mgc leaves behind. {REMEDY}")
