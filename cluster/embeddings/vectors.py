"""Embeddings of a table as unit vectors.

Axes: N tracks of a batch, D numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.storage.uri import Uri
from mgc import schema
from mgc.errors import LabelsError

VECTORS_AT_ONCE: Final = 4_096
"""Embeddings to read at a time: 38 MB of those of the shipped bundle, which have 2,304 numbers."""

ONE_AT_A_TIME: Final = {"batch_readahead": 1, "fragment_readahead": 1}
"""Options of a scan. Readahead is for many small files; with embeddings it only takes memory."""

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


def read_vectors(embeddings: pa.Array, uri: Uri, numbers: int | None = None) -> np.ndarray:
    """Return embeddings as float32 (tracks, numbers), each number up to `schema.LARGEST_NUMBER`.

    Args:
        embeddings: lists of numbers, at least one, none of them null.
        uri: the table, for the message.
        numbers: how many numbers each must have; None for any, but all the same.

    Raises:
        LabelsError: they differ in length, or a number is out of range.
    """
    lengths = pc.list_value_length(embeddings).to_numpy()
    if (lengths != (lengths[0] if numbers is None else numbers)).any() or not lengths[0]:
        raise LabelsError(
            f"{uri}: embeddings of one model differ in length, which no run of mgc leaves behind. {REMEDY}"
        )
    values_ND: np.ndarray = pc.list_flatten(embeddings).to_numpy(zero_copy_only=False).reshape(len(lengths), -1)
    # A number that is none is in no range.
    wrong_ND = ~(np.abs(values_ND) <= schema.LARGEST_NUMBER)
    if wrong_ND.any():
        number = values_ND[wrong_ND][0]
        raise LabelsError(f"{uri}: an embedding has the number {number:g}, which no run of mgc leaves behind. {REMEDY}")
    return values_ND.astype(np.float32)


def unit_vectors(embeddings: pa.Array, uri: Uri, numbers: int | None = None) -> np.ndarray:
    """Return embeddings divided by their lengths: float32 (tracks, numbers). One of zeros stays as it is.

    Args:
        embeddings: as for `read_vectors`.
        uri: as for `read_vectors`.
        numbers: as for `read_vectors`.

    Raises:
        LabelsError: as for `read_vectors`.
    """
    values_ND = read_vectors(embeddings, uri, numbers)
    norms_N = np.sqrt(np.einsum("nd,nd->n", values_ND, values_ND, dtype=np.float64))
    units_ND: np.ndarray = (values_ND / np.where(norms_N > 0, norms_N, 1.0)[:, None]).astype(np.float32)
    return units_ND
