"""MTG-Jamendo: 55,000 full tracks with their uploaders' tags, 87 of them genres, in five official splits.

A TSV file has TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, DURATION (seconds) and TAGS. All fields from the sixth on are tags,
so rows differ in length. A tag is `category---name` with the category genre, instrument or mood/theme. The file names
of a split end in -train.tsv, -validation.tsv or -test.tsv. Each split keeps an artist or album on one side. Split 0 has
55,094 tracks with genres (32,572, 11,043 and 11,479) by 3,546 artists.

A track may have several genres: `genres` has all of them. `genre_top` is set only for a track with exactly one (11,946
of the 55,094), since the corpus does not rank them. Genres keep the spelling of the corpus (`punkrock`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import pyarrow as pa

from mgc.datasets.metadata import metadata_table as checked_table
from mgc.datasets.splits import TEST, TRAIN, VALIDATION
from mgc.errors import CatalogError

TITLE: Final = "The MTG-Jamendo Dataset for Automatic Music Tagging"
CITATION: Final = (
    "D. Bogdanov, M. Won, P. Tovstogan, A. Porter, X. Serra, The MTG-Jamendo Dataset for Automatic Music Tagging, "
    "Machine Learning for Music Discovery Workshop, ICML 2019."
)
LICENSE: Final = (
    "Metadata: CC BY-NC-SA 4.0. Audio: each artist's Creative Commons licence, listed in its audio_licenses.txt."
)
URL: Final = "https://github.com/MTG/mtg-jamendo-dataset"
PROVENANCE: Final = "Tracks and tags of jamendo.com, collected by the Music Technology Group, Universitat Pompeu Fabra."
NOTICE: Final = (
    "MTG-Jamendo (Bogdanov et al., ICML 2019), metadata CC BY-NC-SA 4.0. The music is each artist's, under Creative "
    "Commons licences."
)

ARTISTS_APART: Final = True
"""Checked on split 0: 3,546 artists and 11,186 albums, each on one side."""

SPLITS: Final = (TRAIN, VALIDATION, TEST)

HEADER: Final = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")

GENRE: Final = "genre"
"""Category of the tags that become `genres`."""

_FORMS: Final = {
    "TRACK_ID": "track_[0-9]{1,9}",
    "ARTIST_ID": "artist_[0-9]{1,9}",
    "ALBUM_ID": "album_[0-9]{1,9}",
    "PATH": r"[0-9]{2}/[0-9]{1,9}\.mp3",
    "DURATION": r"[0-9]{1,9}(\.[0-9]+)?",
}
_FULL: Final = ".mp3"
_LOW: Final = ".low.mp3"


class Track(NamedTuple):
    """A checked row.

    Attributes:
        track_id: path in the archive, `14/214.mp3`.
        artist_id: as the corpus writes it, `artist_000014`.
        album_id: `album_000031`.
        duration_seconds: length of the whole track.
        genres: names of its genre tags, in the order of the row.
    """

    track_id: str
    artist_id: str
    album_id: str
    duration_seconds: float
    genres: list[str]


def split_of_file(name: str) -> str | None:
    """Return the split that a file name gives; None for a file of no split."""
    return next((split for split in SPLITS if name.endswith(f"-{split}.tsv")), None)


def read_tracks(data: bytes, where: str) -> list[Track]:
    """Read the rows of a TSV file.

    Args:
        data: the file.
        where: its path, for messages.

    Raises:
        CatalogError: the file is not such a table, or a value is invalid. The message names the row (the header is row
            1) and the column.
    """
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise _refusal(f"{where}: cannot be read as text in UTF-8: {error}.") from None
    # The empty text after the last line break is not a row.
    rows = [line.removesuffix("\r").split("\t") for line in (lines if lines[-1] else lines[:-1])]
    if not rows or rows[0] != list(HEADER):
        raise _refusal(f"{where}: MTG-Jamendo's tables begin with the columns {', '.join(HEADER)}, split by tabs.")
    if len(rows) == 1:
        raise _refusal(f"{where}: there is no track.")
    return [_track(row, f"{where}: row {number}") for number, row in enumerate(rows[1:], start=2)]


def metadata_table(files: Mapping[str, bytes], low: bool = False) -> pa.Table:
    """Return catalog metadata of the tracks of one or more files.

    Args:
        files: TSV files by name; the end of a name gives the split, null for other names.
        low: whether the audio comes from the corpus's low-quality archives, whose files end in `.low.mp3`.

    Returns:
        The table of `datasets.metadata.metadata_table`.

    Raises:
        CatalogError: as for `read_tracks`, or a track occurs twice, for example in two splits.
    """
    tracks = [(track, split_of_file(name)) for name, data in files.items() for track in read_tracks(data, name)]
    return checked_table(
        {
            "track_id": [track.track_id.removesuffix(_FULL) + (_LOW if low else _FULL) for track, _ in tracks],
            "genre_top": [track.genres[0] if len(track.genres) == 1 else None for track, _ in tracks],
            "genres": [track.genres or None for track, _ in tracks],
            "artist_id": [track.artist_id for track, _ in tracks],
            "album_id": [track.album_id for track, _ in tracks],
            "split": [split for _, split in tracks],
            "duration_seconds": [track.duration_seconds for track, _ in tracks],
        },
        ", ".join(files),
    )


def _track(row: list[str], place: str) -> Track:
    if len(row) < len(HEADER):
        raise _refusal(f"{place} has {len(row)} fields; it needs five and at least one tag.")
    field = dict(zip(HEADER, row, strict=False))
    for name, form in _FORMS.items():
        if not re.fullmatch(form, field[name]):
            raise _refusal(f"{place}: {name} is {field[name][:100]!r}, not of the form {form}.")
    genres = []
    for tag in row[len(_FORMS) :]:
        category, dashes, name = tag.partition("---")
        if not (category and dashes and name):
            raise _refusal(f"{place}: the tag {tag[:100]!r} is not of the form category---name.")
        if category == GENRE and name in genres:
            raise _refusal(f"{place}: the tag {tag[:100]!r} appears twice.")
        if category == GENRE:
            genres.append(name)
    return Track(field["PATH"], field["ARTIST_ID"], field["ALBUM_ID"], float(field["DURATION"]), genres)


def _refusal(fault: str) -> CatalogError:
    return CatalogError(f"{fault} Take the file from MTG-Jamendo again.")
