from __future__ import annotations

from typing import Any

import pytest

from mgc.errors import ConfigError
from mgc.taxonomy import Genre, Taxonomy

TREE = Taxonomy((Genre("Rock"), Genre("Punk", "Rock"), Genre("Oi", "Punk"), Genre("Folk")))


def test_a_flat_taxonomy_is_in_alphabetical_order() -> None:
    flat = Taxonomy.flat(["Rock", "Folk", "Rock"])
    assert flat.names == ("Folk", "Rock")
    assert len(flat) == 2
    assert [flat.index(name) for name in flat.names] == [0, 1]
    assert all(genre.parent is None for genre in flat.genres)


def test_json_and_back() -> None:
    assert Taxonomy.from_json(TREE.to_json()) == TREE
    assert Taxonomy.from_json([{"name": "Folk"}]) == Taxonomy.flat(["Folk"])


def test_the_id_is_that_of_genres_and_order() -> None:
    assert Taxonomy.flat(["Rock", "Folk"]).id == "197d4fa3d0ca"
    others = [Taxonomy((Genre("Rock"), Genre("Folk"))), Taxonomy((Genre("Folk"), Genre("Rock", "Folk"))), TREE]
    assert len({taxonomy.id for taxonomy in others} | {"197d4fa3d0ca"}) == 4


@pytest.mark.parametrize(
    ("genres", "message"),
    [
        ((), "at least one genre"),
        ((Genre(""),), "needs a name"),
        ((Genre("Rock"), Genre("Folk"), Genre("Rock")), "Rock appear twice"),
        ((Genre("Punk", "Rock"),), "parent.s. Rock are not genres"),
        ((Genre("Rock", "Rock"),), "parents of genre Rock form a circle"),
        ((Genre("Folk"), Genre("A", "B"), Genre("B", "C"), Genre("C", "A")), "parents of genre A form a circle"),
    ],
)
def test_what_is_no_tree_is_refused(genres: tuple[Genre, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Taxonomy(genres)


@pytest.mark.parametrize("value", [{}, "Rock", ["Rock"], [{"parent": None}], [{"name": 3}], [{"name": "a", "up": "b"}]])
def test_what_is_no_json_of_a_taxonomy_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="must be a list of"):
        Taxonomy.from_json(value)


def test_an_unknown_genre_is_named() -> None:
    with pytest.raises(ConfigError, match=r"genre 'Jazz' is not in the taxonomy \(Rock, Punk, Oi, Folk\)"):
        TREE.index("Jazz")
