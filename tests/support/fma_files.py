"""FMA's tables as its authors wrote them: pandas frames with their 52 columns, saved by `to_csv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

COLUMNS: Final = {
    "album": (
        "comments date_created date_released engineer favorites id information listens producer tags title tracks type"
    ),
    "artist": (
        "active_year_begin active_year_end associated_labels bio comments date_created favorites id latitude location "
        "longitude members name related_projects tags website wikipedia_page"
    ),
    "set": "split subset",
    "track": (
        "bit_rate comments composer date_created date_recorded duration favorites genre_top genres genres_all "
        "information interest language_code license listens lyricist number publisher tags title"
    ),
}
NAMES: Final = [(group, name) for group, names in COLUMNS.items() for name in names.split()]

GENRES: Final = (
    # genre_id, #tracks, parent, title, top_level: an excerpt of the real table
    (1, 8693, 38, "Avant-Garde", 38),
    (4, 4126, 0, "Jazz", 4),
    (8, 868, 0, "Old-Time / Historic", 8),
    (12, 32923, 0, "Rock", 12),
    (21, 8389, 0, "Hip-Hop", 21),
    (25, 9261, 12, "Punk", 12),
    (38, 38154, 0, "Experimental", 38),
    (109, 1419, 25, "Hardcore", 12),
    (178, 0, 4, "Be-Bop", 4),
)
TITLES: Final = {row[0]: row[3] for row in GENRES}


@dataclass(frozen=True)
class Row:
    """What the tests vary of a track; `text` stands wherever people wrote."""

    track_id: int
    genre_top: str | None = None
    genres_all: tuple[int, ...] = ()
    artist_id: int = 1
    album_id: int = 1
    split: str | None = "training"
    subset: str | None = "large"
    duration: int | None = 200
    text: str | None = None


def tracks_csv(rows: Sequence[Row], **wrong: Any) -> bytes:
    """tracks.csv; `wrong`, by `group__name`, replaces a column of the first row."""
    values = [[_value(row, group, name) for group, name in NAMES] for row in rows]
    frame = pd.DataFrame(values, columns=pd.MultiIndex.from_tuples(NAMES), dtype=object)
    frame.index = pd.Index([row.track_id for row in rows], name="track_id")
    for name, value in wrong.items():
        frame.iloc[0, NAMES.index((name.partition("__")[0], name.partition("__")[2]))] = value
    return frame.to_csv().encode()


def genres_csv(rows: Sequence[tuple[Any, ...]] = GENRES) -> bytes:
    """genres.csv."""
    frame = pd.DataFrame(rows, columns=["genre_id", "#tracks", "parent", "title", "top_level"])
    return frame.to_csv(index=False).encode()


def _value(row: Row, group: str, name: str) -> Any:
    given = {
        ("album", "id"): row.album_id,
        ("artist", "id"): row.artist_id,
        ("set", "split"): row.split,
        ("set", "subset"): row.subset,
        ("track", "duration"): row.duration,
        ("track", "genre_top"): row.genre_top,
        ("track", "genres"): str(list(row.genres_all[:1])),
        ("track", "genres_all"): str(list(row.genres_all)),
        ("track", "tags"): "[]",
    }
    if (group, name) in given:
        value = given[group, name]
        return np.nan if value is None else value
    if name in ("information", "bio", "title", "name", "composer"):
        return np.nan if row.text is None else row.text
    return 0 if name in ("comments", "favorites", "listens", "tracks") else np.nan
