"""Any folder of the form genre/…/file: the first part of a track's path below SOURCE is its genre.

Nothing else is known: no artist, no album, no split. `--split-by track_id` divides such a catalog, but may put an
artist on two sides. If you know the artists, give them in a CSV or Parquet file (`mgc catalog --metadata`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from mgc.datasets.metadata import metadata_table as checked_table

TITLE: Final = "A folder of genre/.../file"
CITATION: Final = "None: the files are the user's own."
LICENSE: Final = "The owner's of the files."
URL: Final = "docs/corpora.md"
PROVENANCE: Final = "Genres are the names of the folders below SOURCE."
NOTICE: Final = "Genres are the names of folders; artists are unknown, so one may be on both sides of a split."

ARTISTS_APART: Final = False


def genre_of(track_id: str) -> str | None:
    """Return the first folder of a path; None for a file outside any folder."""
    genre, slash, _ = track_id.partition("/")
    return genre if slash else None


def metadata_table(track_ids: Sequence[str]) -> pa.Table:
    """Return catalog metadata of the files in genre folders.

    Args:
        track_ids: paths below SOURCE.

    Returns:
        The table of `datasets.metadata.metadata_table`, without files outside any folder.
    """
    known = {track_id: genre for track_id in track_ids if (genre := genre_of(track_id)) is not None}
    return checked_table(
        {
            "track_id": pa.array(list(known), pa.string()),
            "genre_top": pa.array(list(known.values()), pa.string()),
            "genres": pa.array([[genre] for genre in known.values()], pa.list_(pa.string())),
        },
        "the folders of SOURCE",
    )
