"""FMA, the Free Music Archive as a corpus: 106,574 tracks, a tree of 163 genres, official subsets and splits.

Four archives of MP3s hold all or some of the tracks: `fma_small` (8,000 clips of 30 s, 8 genres of 1,000 each),
`fma_medium` (25,000 clips, 16 genres, 21 to 7,103 tracks each), `fma_large` (106,574 clips) and `fma_full` (106,574
untrimmed tracks). The subsets are cumulative: a track of small is one of medium and of large too, and `set.subset`
names the smallest that it is in. The official split (training, validation, test) keeps each artist on one side and
serves all subsets.

Two tables describe the tracks: `tracks.csv` (three header rows) and `genres.csv`. About half of the tracks have no
`genre_top`: their genres have more than one root, or they have no genre.

The paper counts 161 genres, the repository 163: `genres.csv` has 163 rows, and two of these genres (Be-Bop, Bollywood)
have no track. `raw_genres.csv` is the table before the authors repaired it: some parents are missing or are the genre
itself, and Hip-Hop occurs twice. mgc does not read it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from mgc.datasets.fma_subsets import SUBSETS, Subset
from mgc.datasets.fma_tracks import ALBUM, ARTIST, DURATION, GENRE_TOP, SPLIT, SUBSET, Tracks
from mgc.datasets.metadata import metadata_table as checked_table
from mgc.datasets.splits import TEST, TRAIN, VALIDATION
from mgc.errors import CatalogError
from mgc.taxonomy import Genre, Taxonomy

TITLE: Final = "FMA: A Dataset for Music Analysis"
CITATION: Final = (
    "M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson, FMA: A Dataset for Music Analysis, ISMIR 2017, "
    "arXiv:1612.01840."
)
LICENSE: Final = (
    "Metadata: CC BY 4.0. Audio: each artist's own licence (column track.license), mostly Creative Commons, some of "
    "them non-commercial or without derivatives."
)
URL: Final = "https://github.com/mdeff/fma"
PROVENANCE: Final = "Tracks and metadata of freemusicarchive.org, collected by the authors; release rc1 of 2017-05-09."
NOTICE: Final = (
    "FMA (Defferrard et al., ISMIR 2017), metadata CC BY 4.0. The music is each artist's, under Creative Commons "
    "licences of several kinds, some non-commercial."
)

ARTISTS_APART: Final = True
"""The authors' notebook puts all tracks of an artist on one side."""

CLIP_SECONDS: Final = 30.0
"""Length of the clips of small, medium and large, cut from the middle. A shorter track is kept whole."""

SHORT_CLIPS: Final[Mapping[int, float]] = {
    1486: 0.0,
    5574: 0.0,
    65753: 0.0,
    80391: 0.0,
    98558: 0.0,
    98559: 0.0,
    98560: 0.0,
    98565: 1.6,
    98566: 6.2,
    98567: 0.5,
    98568: 6.6,
    98569: 1.5,
    98571: 0.0,
    99134: 0.0,
    105247: 0.0,
    108924: 27.4,
    108925: 0.0,
    126981: 0.0,
    127336: 0.0,
    133297: 0.0,
    143992: 0.0,
}
"""The 21 clips of `fma_medium` (6 of them in `fma_small`) that are shorter than 30 s, with their lengths in seconds.

From the errata of the authors, https://github.com/mdeff/fma/wiki: the lengths that freemusicarchive.org gave were
wrong, so the clip was cut beyond the end of the track. `fma_large` has more of them, not listed here. The untrimmed
tracks of `fma_full` are whole.
"""

_SPLITS: Final = {"training": TRAIN, "validation": VALIDATION, "test": TEST}
_NO_ALBUM: Final = "-1"
"""The value in tracks.csv of a track without an album."""

_GENRE_COLUMNS: Final = ("genre_id", "#tracks", "parent", "title", "top_level")


@dataclass(frozen=True)
class FmaGenre:
    """A row of genres.csv.

    Attributes:
        genre_id: FMA's number of the genre.
        title: name, unique in the real table.
        parent: `genre_id` of the genre above; None at the top.
        top_level: `genre_id` of its top-level genre.
        tracks: number of the 106,574 tracks that have this genre or one below it.
    """

    genre_id: int
    title: str
    parent: int | None
    top_level: int
    tracks: int


def track_path(track_id: int) -> str:
    """Return the path of a track in each archive: `000/000002.mp3` for track 2."""
    return f"{track_id // 1000:03d}/{track_id:06d}.mp3"


def subset_names(subset: Subset) -> tuple[str, ...]:
    """Return the values of `set.subset` that belong to a subset: its own and those of all smaller subsets."""
    names = SUBSETS[: SUBSETS.index("full")]
    return names[: names.index(subset) + 1] if subset != "full" else names


def faulty(track_ids: Iterable[str]) -> list[str]:
    """Return the track ids (paths) whose clip is known to be short or empty; see `SHORT_CLIPS`."""
    known = {track_path(number) for number in SHORT_CLIPS}
    return [track_id for track_id in track_ids if track_id in known]


def read_genres(data: bytes, where: str) -> dict[int, FmaGenre]:
    """Read the genres of genres.csv, by their number.

    Args:
        data: the file.
        where: its path, for messages.

    Raises:
        CatalogError: the file is not such a table, or a number, title or parent is invalid. The message names the row
            (the header is row 1).
    """
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refusal(f"{where}: cannot be read as CSV: {error}.") from None
    header = rows[0] if rows else []
    if sorted(header) != sorted(_GENRE_COLUMNS):
        raise _refusal(
            f"{where}: FMA's genres.csv has the columns {', '.join(_GENRE_COLUMNS)}; "
            f"this file has {', '.join(header)[:200]}."
        )
    places: dict[int, str] = {}
    titles: set[str] = set()
    genres: dict[int, FmaGenre] = {}
    for number, row in enumerate(rows[1:], start=2):
        place = f"{where}: row {number}"
        genre = _genre(header, row, place)
        if genre.genre_id in (0, *genres) or genre.title in ("", *titles):
            raise _refusal(f"{place}: genre_id {genre.genre_id} or title {genre.title!r} is 0, empty, or used before.")
        titles.add(genre.title)
        genres[genre.genre_id], places[genre.genre_id] = genre, f"{place}: genre {genre.genre_id} ({genre.title})"
    if not genres:
        raise _refusal(f"{where}: there is no genre.")
    for genre in genres.values():
        _check_way_up(genre, genres, places[genre.genre_id])
    return genres


def taxonomy(genres: Mapping[int, FmaGenre]) -> Taxonomy:
    """Return the tree of the genres, in order of their numbers."""
    ordered = sorted(genres.values(), key=lambda genre: genre.genre_id)
    return Taxonomy(
        tuple(Genre(each.title, None if each.parent is None else genres[each.parent].title) for each in ordered)
    )


def metadata_table(
    tracks_csv: bytes, genres: Mapping[int, FmaGenre], where: str, audio: Subset | None = None
) -> pa.Table:
    """Return catalog metadata of all tracks of tracks.csv.

    `genre_top` is the corpus's own. `genres` are the titles of `track.genres_all`, which include the genres above; it
    is null where the track has none. `duration_seconds` is the length of the file in the archive: at most 30 in all but
    `full`, and less for `SHORT_CLIPS`. FMA's own column has the untrimmed track's length in whole seconds, sometimes
    wrong.

    Args:
        tracks_csv: the file.
        genres: from `read_genres`.
        where: path of tracks.csv, for messages.
        audio: archive that the audio comes from; `duration_seconds` is null without it.

    Returns:
        The table of `datasets.metadata.metadata_table`.

    Raises:
        CatalogError: the file is not such a table, or a value is invalid. The message names the row (counted from 1
            after the header), the track and the column.
    """
    tracks = Tracks.read(tracks_csv, where)
    numbers = tracks.numbers()
    digits = pc.utf8_lpad(numbers, 6, "0")
    album = tracks.text(ALBUM, "^(-1|[0-9]+)$", "a number")
    tops = {genre.title: genre.title for genre in genres.values() if genre.parent is None}
    return checked_table(
        {
            # `track_path` of all of them
            "track_id": pc.binary_join_element_wise(pc.utf8_slice_codeunits(digits, 0, 3), "/", digits, ".mp3", ""),
            "genre_top": tracks.chosen(GENRE_TOP, tops),
            "genres": tracks.genre_lists({number: genre.title for number, genre in genres.items()}),
            "artist_id": tracks.text(ARTIST, "^[0-9]+$", "a number"),
            "album_id": pc.if_else(pc.equal(album, _NO_ALBUM), pa.scalar(None, pa.string()), album),
            "split": tracks.chosen(SPLIT, _SPLITS),
            "subset": tracks.chosen(SUBSET, {name: name for name in subset_names("full")}, required=True),
            "duration_seconds": _durations(tracks, numbers, audio),
        },
        where,
    )


def _genre(header: list[str], row: list[str], place: str) -> FmaGenre:
    if len(row) != len(header):
        raise _refusal(f"{place} has {len(row)} fields, the header {len(header)}.")
    field = dict(zip(header, row, strict=True))
    for name in _GENRE_COLUMNS:
        if name != "title" and not re.fullmatch("[0-9]{1,9}", field[name]):
            raise _refusal(f"{place}: {name} is {field[name][:100]!r}, not a whole number.")
    return FmaGenre(
        genre_id=int(field["genre_id"]),
        title=field["title"],
        parent=int(field["parent"]) or None,
        top_level=int(field["top_level"]),
        tracks=int(field["#tracks"]),
    )


def _check_way_up(genre: FmaGenre, genres: Mapping[int, FmaGenre], place: str) -> None:
    """Refuse a genre if a parent is missing, or if its parents form a circle or end at another top level."""
    if genre.parent is not None and genre.parent not in genres:
        raise _refusal(f"{place} has parent {genre.parent}, which is not a genre of the table.")
    passed, at = {genre.genre_id}, genre
    while at.parent is not None and at.parent in genres:
        at = genres[at.parent]
        if at.genre_id in passed:
            raise _refusal(f"{place}: its parents form a circle.")
        passed.add(at.genre_id)
    if at.genre_id != genre.top_level:
        raise _refusal(f"{place} has top_level {genre.top_level}, but its parents lead to {at.genre_id}.")


def _durations(tracks: Tracks, numbers: pa.Array, audio: Subset | None) -> pa.Array:
    whole = tracks.text(DURATION, "^[0-9]{1,9}([.][0-9]+)?$", "seconds").cast(pa.float64())
    if audio is None:
        return pa.nulls(len(whole), pa.float64())
    if audio == "full":
        return whole
    place = pc.index_in(numbers, value_set=pa.array([str(number) for number in SHORT_CLIPS]))
    short = pa.array(list(SHORT_CLIPS.values()), pa.float64()).take(place)
    return pc.coalesce(short, pc.if_else(pc.greater(whole, CLIP_SECONDS), CLIP_SECONDS, whole))


def _refusal(fault: str) -> CatalogError:
    return CatalogError(f"{fault} Take genres.csv from fma_metadata.zip again.")
