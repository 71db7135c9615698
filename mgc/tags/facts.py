"""What a catalog says of a track by its tags: artist, album, title, year, ids, and the text of the genre."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mgc.tags.tags import Tags

MOST_CHARACTERS: Final = 1000
"""Most characters of a text in a catalog, whose readers refuse more than 4 KiB."""

MUSICBRAINZ: Final = (
    "musicbrainz_recording_id",
    "musicbrainz_artist_id",
    "musicbrainz_album_artist_id",
    "musicbrainz_release_id",
    "musicbrainz_release_group_id",
)

_SEPARATOR: Final = "; "

_NOBODY: Final = frozenset(
    {
        *("va", "v.a.", "v/a", "various", "various artist", "various artists", "various performers", "varios artistas"),
        *("varios", "verschiedene", "verschiedene interpreten", "diverse", "divers", "artistes divers", "artisti vari"),
        *("vari", "unknown", "unknown artist", "<unknown>", "artist", "no artist", "n/a", "none", "[unknown]"),
        *("unbekannt", "unbekannter künstler", "unbekannter interpret", "interpret", "-", "?"),
    }
)
"""Names, in the form of `artist_key`, that stand for no one artist."""

_ALIKE: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4`", "'"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    }
)
"""Apostrophes and hyphens that one program writes and another does not."""

_YEAR: Final = re.compile(r"(?<!\d)[12]\d{3}(?!\d)|(?<!\d)[12]\d{3}(?=[01]\d[0-3]\d(?!\d))")


def facts_of(tags: Tags) -> dict[str, str | int | None]:
    """Return columns of a catalog: those of `mgc.schema.CATALOG_TAGS`, `artist_id` and `album_id`; null if unknown.

    The artist is that of the album, or else the track's. `Various Artists` is no artist. Ids are the names as
    `artist_key` has them, so that one artist has one id.
    """
    album_artist, artist, album = (_joined(tags.of(name)) for name in ("album_artist", "artist", "album"))
    who = next((name for name in (album_artist, artist) if name and artist_key(name) not in _NOBODY), None)
    artist_id = (artist_key(who) or None) if who else None
    facts: dict[str, str | int | None] = {
        "artist_id": artist_id,
        "album_id": f"{artist_key(album_artist or who or '')} / {artist_key(album)}"[:MOST_CHARACTERS]
        if album
        else None,
        "artist_name": who,
        "album": album,
        "title": _joined(tags.of("title")),
        "year": _year(tags.of("date")),
        "genre_tag": _joined(tags.of("genre")),
        "tag_error": tags.fault,
    }
    return facts | {name: _joined(tags.of(name)) for name in MUSICBRAINZ}


def artist_key(name: str) -> str:
    """Return what two spellings of one name have in common.

    They may differ in case, in blanks and invisible characters, in the kind of apostrophes and hyphens, and in the code
    points that Unicode has for one character (NFKC). The key of a key is the key.
    """
    # A folded letter may be composed of others than before.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).casefold()
    plain = unicodedata.normalize("NFKC", folded.translate(_ALIKE))
    seen = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    return " ".join(seen.split())[:MOST_CHARACTERS].rstrip()


def renew_ids(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns that an earlier catalog has of a track, with the ids as this version of mgc writes them."""
    artist, album = (artist_key(row[name]) if row[name] else None for name in ("artist_id", "album_id"))
    return {**row, "artist_id": None if artist in _NOBODY else artist or None, "album_id": album}


def _joined(values: Sequence[str]) -> str | None:
    """Return values as one text, the same one only once. Leaves out whole values from where it becomes too long."""
    text = ""
    for value in dict.fromkeys(values):
        longer = f"{text}{_SEPARATOR}{value}" if text else value[:MOST_CHARACTERS]
        if len(longer) > MOST_CHARACTERS:
            break
        text = longer
    return text or None


def _year(dates: Sequence[str]) -> int | None:
    found = (_YEAR.search(date) for date in dates)
    return next((int(year.group()) for year in found if year), None)
