"""What a catalog says of a track by its tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc import schema
from mgc.tags.facts import MOST_CHARACTERS, artist_key, facts_of, renew_ids
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


@pytest.mark.parametrize(
    "spellings",
    [
        ("The Beatles", "THE BEATLES", "the  beatles ", "The\u00a0Beatles", "\u200eThe Bea\u00adtles"),
        ("Bj\u00f6rk", "Bjo\u0308rk", "BJO\u0308RK"),
        ("Perfume", "\uff30\uff45\uff52\uff46\uff55\uff4d\uff45"),
        ("\u30d1\u30d5\u30e5\u30fc\u30e0", "\uff8a\uff9f\uff8c\uff6d\uff70\uff91"),
        ("Guns N\u2019 Roses", "Guns N' Roses", "GUNS N` ROSES"),
        ("Jay-Z", "Jay\u2010Z", "JAY\u2011Z"),
        ("Stra\u00dfe", "STRASSE"),
    ],
)
def test_one_artist_has_one_id(spellings: tuple[str, ...]) -> None:
    assert len({facts(artist=[name])["artist_id"] for name in spellings}) == 1


@given(st.text(max_size=40))
def test_the_form_of_a_name_does_not_matter(name: str) -> None:
    key = artist_key(name)
    assert artist_key(key) == key
    forms: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")
    assert {artist_key(unicodedata.normalize(form, name)) for form in forms} == {key}
    assert artist_key(name.casefold()) == key


def test_names_that_stand_for_nobody_do_so_in_any_form() -> None:
    for name in ("\uff36\uff21", "unbekannter Ku\u0308nstler", "\u2013", "\u200b"):
        assert facts(artist=[name])["artist_id"] is None


def test_ids_of_an_earlier_catalog_are_renewed() -> None:
    row = {
        "artist_id": "bjo\u0308rk",
        "album_id": "bjo\u0308rk / de\u0301but",
        "artist_name": "Bjo\u0308rk",
        "year": None,
    }
    assert renew_ids(row) == {**row, "artist_id": "bj\u00f6rk", "album_id": "bj\u00f6rk / d\u00e9but"}
    assert renew_ids({"artist_id": None, "album_id": None}) == {"artist_id": None, "album_id": None}
    assert renew_ids({"artist_id": "\uff36\uff21", "album_id": None})["artist_id"] is None


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
