"""The roster of a features table under a protocol: its tracks with their artist, genre and side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from mgc.configuration import short_hash
from mgc.datasets import protocols
from mgc.datasets.protocols import ProtocolConfig

COLUMNS: Final = (*protocols.COLUMNS, "genre_top")
"""Columns of a features table from which its roster is made."""

_KEYS: Final = ["track_id", "artist_id", "genre_top", "split"]
_ROWS: Final = pa.schema([*(pa.field(name, pa.string()) for name in _KEYS), pa.field("clips", pa.int64())])
_GATHERED_ROWS: Final = 2**20


@dataclass(frozen=True)
class SideSize:
    """The size of one side.

    Attributes:
        tracks: number of tracks with a genre.
        clips: number of their clips.
        artists: number of known artists.
        tracks_of_unknown_artist: number of these tracks whose artist is unknown.
    """

    tracks: int
    clips: int
    artists: int
    tracks_of_unknown_artist: int


@dataclass(frozen=True, eq=False)
class Roster:
    """The labelled rows of a features table that are on a side, with the clips of each track counted.

    Attributes:
        rows: `track_id`, `artist_id` (null where unknown), `genre_top`, `split`, `clips`; one row per combination, in
            order of track id.
    """

    rows: pa.Table

    def class_counts(self, split: str) -> dict[str, int]:
        """Return the clips of each genre on a side, genres in alphabetical order."""
        counted = self._of(split).group_by("genre_top").aggregate([("clips", "sum")])
        pairs = zip(counted["genre_top"].to_pylist(), counted["clips_sum"].to_pylist(), strict=True)
        return dict(sorted(pairs))

    def tracks(self, split: str) -> list[str]:
        """Return the sorted ids of the tracks on a side."""
        return sorted(self._of(split)["track_id"].unique().to_pylist())

    def genres(self, split: str) -> dict[str, str]:
        """Return the genre of each track on a side."""
        rows = self._of(split)
        return dict(zip(rows["track_id"].to_pylist(), rows["genre_top"].to_pylist(), strict=True))

    def size(self, split: str) -> SideSize:
        """Return the size of a side."""
        rows = self._of(split)
        return SideSize(
            tracks=pc.count_distinct(rows["track_id"]).as_py(),
            clips=pc.sum(rows["clips"]).as_py() or 0,
            artists=pc.count_distinct(rows["artist_id"], mode="only_valid").as_py(),
            tracks_of_unknown_artist=pc.count_distinct(rows.filter(pc.is_null(rows["artist_id"]))["track_id"]).as_py(),
        )

    def limited(self, limit: int | None, sides: Sequence[str]) -> Roster:
        """Return a roster with at most `limit` tracks on each of some sides, spread evenly in order of their ids.

        Args:
            limit: number of tracks; None for all.
            sides: sides to limit; the others stay as they are.
        """
        rows = self.rows
        for split in sides:
            tracks = self.tracks(split)
            if limit is not None and limit < len(tracks):
                kept = pa.array([tracks[place * len(tracks) // limit] for place in range(limit)], pa.string())
                elsewhere = pc.not_equal(rows["split"], split)
                rows = rows.filter(pc.or_(elsewhere, pc.is_in(rows["track_id"], value_set=kept)))
        return Roster(rows)

    def only(self, split: str) -> pc.Expression:
        """Return an expression that selects the rows of a side's tracks, for any table."""
        return pc.field("track_id").isin(self.tracks(split))

    def _of(self, split: str) -> pa.Table:
        return self.rows.filter(pc.equal(self.rows["split"], split))


def count_rows(batches: Iterable[pa.RecordBatch], protocol: ProtocolConfig) -> Roster:
    """Return the roster of a features table, read once, batch by batch.

    Rows without a genre or a side are left out. Memory grows with the number of tracks, not of clips.

    Args:
        batches: rows with the columns `COLUMNS`.
        protocol: how they are divided.
    """
    return Roster(_gather(_divided(pa.Table.from_batches([batch]), protocol) for batch in batches))


def digest_facts(batches: Iterable[pa.RecordBatch]) -> str:
    """Return a hash of what decides labels and sides: id, artist, genre and split of every track.

    The order of the rows does not matter. Memory grows with the number of tracks, not of clips.

    Args:
        batches: rows with the columns `COLUMNS`.
    """
    return short_hash(_gather(_stated(pa.Table.from_batches([batch])) for batch in batches).to_pydict())


def on_side(rows: pa.Table, split: str, protocol: ProtocolConfig) -> pa.Array:
    """Return for each row of a features table whether it is labelled and on a side; see `protocols.splits`."""
    labelled = pc.and_(protocols.known(rows, "track_id").is_valid(), protocols.known(rows, "genre_top").is_valid())
    return pc.and_(labelled, pc.fill_null(pc.equal(protocols.splits(rows, protocol), split), False))


def _gather(parts: Iterable[pa.Table]) -> pa.Table:
    """Return the rows of all parts with their clips counted, in order of track id."""
    whole, gathered = _ROWS.empty_table(), []
    for part in parts:
        gathered.append(_counted(part))
        if sum(each.num_rows for each in gathered) > max(_GATHERED_ROWS, whole.num_rows):
            whole, gathered = _counted(pa.concat_tables([whole, *gathered])), []
    whole = _counted(pa.concat_tables([whole, *gathered]))
    return whole.sort_by([(name, "ascending") for name in _KEYS])


def _stated(rows: pa.Table) -> pa.Table:
    columns = {name: protocols.known(rows, name) for name in _KEYS}
    return pa.table({**columns, "clips": pa.repeat(1, rows.num_rows)}).cast(_ROWS)


def _divided(rows: pa.Table, protocol: ProtocolConfig) -> pa.Table:
    stated = _stated(rows)
    place = stated.schema.get_field_index("split")
    table = stated.set_column(place, "split", protocols.splits(rows, protocol)).cast(_ROWS)
    for name in ("track_id", "genre_top", "split"):
        table = table.filter(pc.is_valid(table[name]))
    return table


def _counted(rows: pa.Table) -> pa.Table:
    counted = rows.group_by(_KEYS, use_threads=False).aggregate([("clips", "sum")])
    return counted.rename_columns({"clips_sum": "clips"}).select(_ROWS.names)
