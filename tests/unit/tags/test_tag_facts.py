"""What a catalog says of a track by its tags."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc import schema
from mgc.tags.facts import MOST_CHARACTERS, facts_of
from mgc.tags.reader import FIELDS
from mgc.tags.tags import Tags


def facts(**fields: Sequence[str]) -> dict[str, str | int | None]:
    return facts_of(Tags({name: list(values) for name, values in fields.items()}))


@pytest.mark.parametrize(
    ("album_artist", "artist", "name"),
    [
        (["Miles Davis"], ["John Coltrane"], "Miles Davis"),
        ([], ["John Coltrane"], "John Coltrane"),
        (["Various Artists"], ["John Coltrane"], "John Coltrane"),
        (["VA"], ["various  artists"], None),
        ([], ["Unknown Artist"], None),
        ([], [], None),
        ([], ["A", "B", "A"], "A; B"),
    ],
)
def test_artist(album_artist: list[str], artist: list[str], name: str | None) -> None:
    found = facts(album_artist=album_artist, artist=artist)
    assert found["artist_name"] == name
    assert found["artist_id"] == (name.lower() if name else None)


def test_one_artist_has_one_id() -> None:
    assert len({facts(artist=[name])["artist_id"] for name in ("The Beatles", "THE BEATLES", "the  beatles ")}) == 1


def test_albums_of_two_artists_are_two() -> None:
    one, two = facts(artist=["A"], album=["Live"]), facts(artist=["B"], album=["live"])
    assert one["album_id"] != two["album_id"]
    together = [facts(album_artist=["Various Artists"], artist=[name], album=["Hits"])["album_id"] for name in "AB"]
    assert len(set(together)) == 1


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("1999", 1999),
        ("1999-05-01", 1999),
        ("19990501", 1999),
        ("(c) 1999", 1999),
        ("99", None),
        ("0000", None),
        ("12345", None),
    ],
)
def test_year(date: str, year: int | None) -> None:
    assert facts(date=[date])["year"] == year


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.lists(st.text(max_size=600), max_size=4)))
def test_any_tags_fit_into_a_catalog(fields: dict[str, list[str]]) -> None:
    found = facts(**fields)
    assert found.keys() == {"artist_id", "album_id", *schema.CATALOG_TAGS.names}
    assert all(len(value) <= 3 * MOST_CHARACTERS for value in found.values() if isinstance(value, str))
    assert all(len(value.encode("utf-8", "replace")) <= 4096 for value in found.values() if isinstance(value, str))
