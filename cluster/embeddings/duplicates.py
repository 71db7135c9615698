"""Find recordings that a table of embeddings has more than once, in whatever format.

Two tracks are taken for one recording if the cosine of their embeddings reaches a threshold and their durations agree,
as far as both are known. Tracks that agree with the same one are in one group.

Embeddings are written to a file in the order of the tracks' shortest possible durations. Blocks of it are compared with
those after them that are near enough in duration. So memory hardly grows with the number of embeddings. Time does, with
the number of pairs of about the same duration.

Axes: N tracks of a block, M tracks of another one, D numbers of an embedding.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from cluster.embeddings.table import EmbeddingsTable
from cluster.embeddings.vectors import REMEDY, VECTORS_AT_ONCE, Model, present, unit_vectors
from cluster.tables.duckdb import bounded_duckdb, query
from cluster.tables.parquet import reading
from mgc.errors import LabelsError

_BLOCK: Final = 8_192
"""Tracks of a block. Two blocks are in memory: 150 MB of the shipped bundle's embeddings."""

_TILE: Final = 1_024
"""Tracks of a block to compare at once with another block, which gives a matrix of 32 MB."""

_ROUNDING: Final = 1e-6
"""Largest error of a cosine in float32, so that equal embeddings reach a threshold of 1."""

_FACTS: Final = ("track_id", "uri", "content_tag", "duration_seconds")


@dataclass(frozen=True)
class Copy:
    """A track of a group.

    Attributes:
        track_id: its id.
        uri: its file.
        duration_seconds: its length; None if it is unknown.
        similarity: the largest cosine with another track of the group.
        by: `content` if another track of the group has the same content tag, else `embedding`.
    """

    track_id: str
    uri: str
    duration_seconds: float | None
    similarity: float
    by: Literal["content", "embedding"]


@dataclass(frozen=True)
class Duplicates:
    """What a table has more than once.

    Attributes:
        groups: tracks of one recording each, in order of track id; the groups in the order of their first track.
        compared: number of tracks that were compared.
        left_out: number of tracks in the catalog with an embedding of another model.
    """

    groups: tuple[tuple[Copy, ...], ...]
    compared: int
    left_out: int


def find_duplicates(table: EmbeddingsTable, threshold: float, seconds: float) -> Duplicates:
    """Return the groups of tracks that are one recording, by the model that most tracks were embedded with.

    Args:
        table: the table.
        threshold: smallest cosine of two embeddings of one recording.
        seconds: largest difference of its durations, besides what they may be wrong by (`tolerance_seconds`).

    Raises:
        LabelsError: the table cannot be read.
        ResourceError: the temporary folder has no room for the embeddings.
    """
    model, compared, left_out = _largest_model(table)
    if model is None:
        return Duplicates((), 0, 0)
    with tempfile.TemporaryDirectory(prefix="mgc-duplicates-") as folder:
        tracks = _write_ordered(table, model, seconds, Path(folder))
        same = _Same(len(tracks.lows))
        for ones, others, similarity in _find_pairs(tracks, threshold):
            same.join(ones, others, similarity)
        return Duplicates(_groups(tracks.facts, same), compared, left_out)


def _largest_model(table: EmbeddingsTable) -> tuple[Model | None, int, int]:
    """Return the model of most tracks, the number of its tracks, and that of all other models."""
    with reading(table.uri, REMEDY, LabelsError):
        counted = query(
            "SELECT model_id, features_id, count(*) AS tracks FROM rows "
            "WHERE windows IS NOT NULL AND removed_at IS NULL GROUP BY ALL ORDER BY tracks DESC, model_id, features_id",
            rows=table.dataset(),
        ).to_pylist()
    if not counted:
        return None, 0, 0
    first, *others = counted
    return Model(first["model_id"], first["features_id"]), first["tracks"], sum(each["tracks"] for each in others)


@dataclass(frozen=True)
class _Ordered:
    """Tracks in the order of `lows`.

    Attributes:
        lows: shortest possible duration of each, less half of what may differ; -inf if it is unknown.
        highs: longest possible duration, and half of what may differ; inf if it is unknown.
        units: their embeddings as unit vectors, in a file.
        facts: a Parquet file with `_FACTS` of each.
    """

    lows: np.ndarray
    highs: np.ndarray
    units: np.ndarray
    facts: Path


def _write_ordered(table: EmbeddingsTable, model: Model, seconds: float, folder: Path) -> _Ordered:
    """Write the embeddings of a model in the order of duration. DuckDB sorts them, and spills."""
    error, half = "coalesce(tolerance_seconds, 0)", seconds / 2
    sorted_rows = (
        f"SELECT {', '.join(_FACTS)}, embedding, "
        f"coalesce(duration_seconds - {error} - {half}, '-infinity'::DOUBLE) AS low, "
        f"coalesce(duration_seconds + {error} + {half}, 'infinity'::DOUBLE) AS high "
        "FROM tracks ORDER BY low, track_id"
    )
    vectors, facts = folder / "vectors", folder / "facts.parquet"
    lows, highs = [np.empty(0)], [np.empty(0)]
    columns = pa.schema([table.form.columns.field(name) for name in _FACTS])
    numbers: int | None = None
    with (
        reading(table.uri, REMEDY, LabelsError),
        bounded_duckdb() as connection,
        vectors.open("wb") as file,
        pq.ParquetWriter(facts, columns) as writer,
    ):
        connection.register("tracks", table.dataset().filter(present(model)))
        for batch in connection.sql(sorted_rows).to_arrow_reader(VECTORS_AT_ONCE):
            units_ND = unit_vectors(batch["embedding"], table.uri, numbers)
            numbers = units_ND.shape[1]
            units_ND.tofile(file)
            lows.append(batch["low"].to_numpy())
            highs.append(batch["high"].to_numpy())
            writer.write_batch(batch.select(list(_FACTS)).cast(columns))
    low_N, high_N = np.concatenate(lows), np.concatenate(highs)
    return _Ordered(low_N, high_N, np.memmap(vectors, np.float32, "r", shape=(len(low_N), numbers or 0)), facts)


def _find_pairs(tracks: _Ordered, threshold: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield pairs of one recording: the places of both tracks, and their cosines."""
    low_N, high_N, units_ND = tracks.lows, tracks.highs, tracks.units

    def end_of(first: int, size: int) -> int:
        """Return the place from which on no track can be as short as the longest of these."""
        return int(np.searchsorted(low_N, high_N[first : first + size].max(), side="right"))

    for first in range(0, len(low_N), _BLOCK):
        block_ND = np.array(units_ND[first : first + _BLOCK])
        end = end_of(first, _BLOCK)
        for second in range(first, end, _BLOCK):
            other_MD = np.array(units_ND[second : min(second + _BLOCK, end)])
            for tile in range(0, len(block_ND), _TILE):
                # The pairs with tracks before these are those of an earlier tile.
                start = max(first + tile - second, 0)
                cosine_NM = block_ND[tile : tile + _TILE] @ other_MD[start : end_of(first + tile, _TILE) - second].T
                ones, others = np.nonzero(cosine_NM >= threshold - _ROUNDING)
                similarity = cosine_NM[ones, others]
                ones, others = ones + first + tile, others + second + start
                # Of two in this order, the second is not shorter than the first: its range begins later.
                agree = (ones < others) & (low_N[others] <= high_N[ones])
                if agree.any():
                    yield ones[agree], others[agree], similarity[agree]


class _Same:
    """Which of `count` tracks are one recording: a forest in which each tree is a group (union-find)."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)
        self.best = np.full(count, -np.inf, np.float32)

    def join(self, ones: np.ndarray, others: np.ndarray, similarity: np.ndarray) -> None:
        """Put the tracks of each pair into one group, and note the largest similarity of each track."""
        np.maximum.at(self.best, ones, similarity)
        np.maximum.at(self.best, others, similarity)
        while len(ones):
            a, b = self.roots(ones), self.roots(others)
            apart = a != b
            ones, others, a, b = ones[apart], others[apart], a[apart], b[apart]
            # A root that is to hang below several gets the smallest; the next round joins the rest.
            np.minimum.at(self._parent, np.maximum(a, b), np.minimum(a, b))

    def roots(self, tracks: np.ndarray) -> np.ndarray:
        """Return the smallest track of each track's group."""
        found: np.ndarray = self._parent[tracks]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parent[tracks] = found
        return found

    def grouped(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the tracks that are in a group with others, in ascending order, and the roots of their groups."""
        tracks = np.flatnonzero(np.isfinite(self.best))
        return tracks, self.roots(tracks)


def _groups(facts: Path, same: _Same) -> tuple[tuple[Copy, ...], ...]:
    tracks, roots = same.grouped()
    rows = pads.dataset(facts).take(pa.array(tracks)).to_pylist() if len(tracks) else []
    by_root: dict[int, list[tuple[dict[str, Any], float]]] = {}
    for row, root, similarity in zip(rows, roots.tolist(), same.best[tracks].tolist(), strict=True):
        by_root.setdefault(root, []).append((row, similarity))
    groups = [_group(members) for members in by_root.values()]
    return tuple(sorted(groups, key=lambda group: group[0].track_id))


def _group(members: Sequence[tuple[dict[str, Any], float]]) -> tuple[Copy, ...]:
    tags = Counter(row["content_tag"] for row, _ in members)
    copies = [
        Copy(
            row["track_id"],
            row["uri"],
            row["duration_seconds"],
            min(similarity, 1.0),
            "content" if tags[row["content_tag"]] > 1 else "embedding",
        )
        for row, similarity in members
    ]
    return tuple(sorted(copies, key=lambda copy: copy.track_id))
