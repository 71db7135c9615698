"""Choose which rows of a features table go into a feed, and how often.

Ray imports this file in the process of each task, so it does not import PyTorch, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from cluster.session.software import begin_work
from cluster.streams.clip_source import repeat_rows
from cluster.streams.failed_tracks import FailedTracks
from cluster.streams.sinks import clips_of
from mgc.datasets.protocols import ProtocolConfig
from mgc.datasets.roster import on_side
from mgc.software import Software
from mgc.training.sampling import Resample

FEED: Final = ["track_id", "clip_index", "genre_top", "features"]
"""Columns of a features table that a feed needs."""


@dataclass(frozen=True)
class Side:
    """Stage: keep the labelled rows of a split, without the column `split`, and repeat them for balance.

    Attributes:
        split: rows to keep.
        protocol: how rows are divided into splits.
        only: condition that rows must also meet.
        resample: how often to repeat each row; None for once.
        software: software of the driver, which makes the stage; workers refuse another.
    """

    split: str
    protocol: ProtocolConfig
    only: pc.Expression | None = None
    resample: Resample | None = None
    software: Software = field(default_factory=Software.here)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield the columns of a feed, in one table or several.

        Raises:
            ResourceError: this process runs other software than the driver.
        """
        begin_work(self.software)
        rows = table.filter(on_side(table, self.split, self.protocol))
        rows = select_columns(rows if self.only is None else rows.filter(self.only))
        return iter([rows]) if self.resample is None else repeat_rows(rows, self.resample)


class ClipsOfSide:
    """Stage: tracks with features → the rows of a feed.

    Args:
        clip_bytes: size of the features of a clip.
        rows: stage that picks the rows and repeats them.
        failed: list to which tracks that failed are added.
    """

    def __init__(self, clip_bytes: int, rows: Side, failed: FailedTracks) -> None:
        self._clip_bytes = clip_bytes
        self._rows = rows
        self._failed = failed

    def __call__(self, tracks: pa.Table) -> Iterator[pa.Table]:
        """Yield the clips of the tracks that did not fail."""
        well = tracks["error_kind"].is_null()
        lost = tracks.filter(tracks["error_kind"].is_valid())
        if lost.num_rows:
            names, kinds = lost["track_id"].to_pylist(), lost["error_kind"].to_pylist()
            self._failed.add(dict(zip(names, kinds, strict=True)))
        yield from self._rows(clips_of(tracks.filter(well), self._clip_bytes))


def select_columns(table: pa.Table) -> pa.Table:
    """Return the columns of a feed. An unknown artist is "", so that all blocks have the same types."""
    unknown = pa.nulls(table.num_rows, pa.string())
    artists = table["artist_id"].cast(pa.string()) if "artist_id" in table.column_names else unknown
    return table.select(FEED).append_column("artist_id", artists.fill_null(""))
