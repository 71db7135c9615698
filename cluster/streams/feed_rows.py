"""Which rows of a features table a feed takes, and how often.

Ray runs this in tasks, whose processes import this file: it needs no PyTorch, which takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from cluster.streams.clip_source import repeated
from mgc.datasets.protocols import ProtocolConfig
from mgc.datasets.roster import on_side
from mgc.training.sampling import Resample

FEED: Final = ["track_id", "clip_index", "genre_top", "features"]
"""The columns of a features table that a feed needs."""


@dataclass(frozen=True)
class Side:
    """Stage: the labelled rows of a split, without its column; for training repeated for balance.

    Attributes:
        split: which rows.
        protocol: how they are divided.
        only: what else must hold of a row.
        resample: how often each is given; None for once.
    """

    split: str
    protocol: ProtocolConfig
    only: pc.Expression | None = None
    resample: Resample | None = None

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """The columns of a feed, in one table or several."""
        rows = table.filter(on_side(table, self.split, self.protocol))
        rows = fed(rows if self.only is None else rows.filter(self.only))
        return iter([rows]) if self.resample is None else repeated(rows, self.resample)


def fed(table: pa.Table) -> pa.Table:
    """The columns of a feed. An unknown artist is "": a block without any artist is typed like its neighbours."""
    unknown = pa.nulls(table.num_rows, pa.string())
    artists = table["artist_id"].cast(pa.string()) if "artist_id" in table.column_names else unknown
    return table.select(FEED).append_column("artist_id", artists.fill_null(""))
