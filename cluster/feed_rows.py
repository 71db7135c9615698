"""Which rows of a features table a feed takes.

Ray runs this in tasks, whose processes import this file: it needs no PyTorch, which takes seconds to import.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from mgc.datasets.protocols import ProtocolConfig
from mgc.datasets.roster import on_side

_FEED: Final = ["track_id", "clip_index", "genre_top", "features"]


class Take:
    """Stage: the labelled rows of a split, without its column."""

    def __init__(self, split: str, protocol: ProtocolConfig, only: pc.Expression | None) -> None:
        self._split = split
        self._protocol = protocol
        self._only = only

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows and columns of the feed."""
        rows = table.filter(on_side(table, self._split, self._protocol))
        return fed(rows if self._only is None else rows.filter(self._only))


def fed(table: pa.Table) -> pa.Table:
    """The columns of a feed. An unknown artist is "": a block without any artist is typed like its neighbours."""
    unknown = pa.nulls(table.num_rows, pa.string())
    artists = table["artist_id"].cast(pa.string()) if "artist_id" in table.column_names else unknown
    return table.select(_FEED).append_column("artist_id", artists.fill_null(""))
