"""From the text of a genre tag to genres."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen.id3 import TCON

from mgc.errors import ConfigError
from mgc.tags.genre_names import (
    MOST_GENRES,
    GenreNames,
    key_of,
    merge_aliases,
    read_aliases,
    read_tree,
    read_whitelist,
    shipped_aliases,
)
from tests.support.draws import draws

SHIPPED = GenreNames(shipped_aliases())


class TestShipped:
    @pytest.mark.parametrize(
        ("text", "genres"),
        [
            ("Rock", ["Rock"]),
            *((spelling, ["Hip-Hop"]) for spelling in ("hiphop", "Hip Hop", "HIP-HOP", "hip_hop", "Hip-Hop/Rap")),
            *((number, ["Rock"]) for number in ("17", "(17)", "(17)Rock", "017", "(17)(17)")),
            ("(4)Funk", ["Disco", "Funk"]),
            ("(51)(39)", ["Techno-Industrial", "Noise"]),
            ("0", ["Blues"]),
            ("191", ["Psybient"]),
            ("((Rock)", ["Rock"]),
            ("RX", []),
            ("(CR)", []),
            *(
                (text, ["Rock", "Jazz"])
                for text in ("Rock;Jazz", "Rock / Jazz", "Rock/Jazz", "Rock\0Jazz", "Rock, Jazz")
            ),
            ("R&B/Soul", ["R&B"]),
            ("Rock/Hip-Hop/Rap/R&B/Soul", ["Rock", "Hip-Hop", "R&B"]),
            ("Jazz/Blues", ["Jazz", "Blues"]),
            ("Pop/Funk", ["Pop/Funk"]),
            ("Folk, World, & Country", ["Folk, World, & Country"]),
            ("Folk, Rock", ["Folk", "Rock"]),
            ("Drum 'n' Bass", ["Drum & Bass"]),
            ("Jazz+Funk", ["Jazz+Funk"]),
            ("Rock;rock;ROCK", ["Rock"]),
            ("Рок", ["Rock"]),
            *((text, []) for text in ("", " ", ";;", "///", "Other", "255", "unknown", "N/A", "<Unknown>")),
        ],
    )
    def test_genres(self, text: str, genres: list[str]) -> None:
        reading = SHIPPED.read(text)
        assert (list(reading.genres), reading.unknown) == (genres, ())

    def test_all_numbers_of_id3v1(self) -> None:
        for number, name in enumerate(TCON.GENRES):
            assert SHIPPED.read(str(number)) == SHIPPED.read(f"({number})") == SHIPPED.read(name)

    def test_mapped(self) -> None:
        assert not SHIPPED.read("hiphop").mapped
        assert SHIPPED.read("Hip-Hop/Rap").mapped
        assert not SHIPPED.read("Rock; Hip-Hop/Rap").mapped

    @pytest.mark.parametrize("text", ["Zamrock", "(4)Zamrock", "Jazz; Zamrock", "Zamrock/Rock", "200;Zamrock"])
    def test_unknown(self, text: str) -> None:
        assert "Zamrock" in SHIPPED.read(text).unknown

    def test_no_alias_leads_to_another(self) -> None:
        aliases = shipped_aliases()
        targets = {key_of(genre) for genre in aliases.values() if genre}
        assert not {
            name for name, genre in aliases.items() if key_of(name) in targets and key_of(name) != key_of(genre)
        }


_NAME = st.text(st.characters(categories=["Lu", "Ll", "Lo"], max_codepoint=0x4FF), min_size=2, max_size=12).filter(
    lambda name: key_of(name) == name.casefold() == name.upper().casefold()
)
_SPELLED = st.sampled_from([str, str.upper, lambda name: f" {name} ", lambda name: f"{name[0]}-{name[1:]}"])


@pytest.mark.draws
@settings(max_examples=draws(50), deadline=None)
@given(
    names=st.lists(_NAME, min_size=1, max_size=8, unique_by=key_of),
    separators=st.lists(st.sampled_from([";", " ; ", "/", " / ", "\0", ",", ", ", ";;", "|", "\\"]), min_size=8),
    spelled=st.lists(_SPELLED, min_size=8, max_size=8),
)
def test_any_separators_and_spellings(names: list[str], separators: list[str], spelled: list) -> None:
    text = "".join(spell(name) + mark for name, mark, spell in zip(names, separators, spelled, strict=False))
    reading = GenreNames({}, names).read(text)
    assert reading.genres == tuple(names)
    assert (reading.mapped, reading.unknown) == (False, ())


@pytest.mark.draws
@settings(max_examples=draws(100), deadline=None)
@given(
    aliases=st.dictionaries(_NAME, st.tuples(_NAME, _NAME), min_size=1, max_size=5),
    separator=st.sampled_from(["/", ", ", " & ", "-", "+", " "]),
)
def test_any_aliases(aliases: dict[str, tuple[str, str]], separator: str) -> None:
    """An alias with a separator in its name is found whole, alone and among others."""
    table = {separator.join(parts): f"Genre of {name}" for name, parts in aliases.items()}
    table = {
        spelling: genre for spelling, genre in table.items() if list(map(key_of, table)).count(key_of(spelling)) == 1
    }
    names = GenreNames(table)
    for spelling, genre in table.items():
        assert names.read(spelling).genres == (genre,)
        assert names.read(f"Rock/{spelling}; Rock").genres == ("Rock", genre)


@pytest.mark.draws
@settings(max_examples=draws(100), deadline=None)
@given(text=st.text(max_size=200))
def test_any_text(text: str) -> None:
    reading = SHIPPED.read(text)
    assert all(reading.genres)
    assert all(word.strip() for word in reading.unknown)
    # A catalog keeps the text, and reads it again.
    assert SHIPPED.read("; ".join(reading.genres)).genres == reading.genres


def test_ten_thousand_genres_are_cut() -> None:
    text = ";".join(str(number % 192) for number in range(10_000))
    assert len(SHIPPED.read(text).genres) == MOST_GENRES
    assert len(SHIPPED.read("/".join(["Rock"] * 10_000)).genres) == 1


TREE = {"Death Metal": "Metal", "Metal": "Rock", "Techno": "Electronic", "Grindcore": "death metal"}


class TestWhitelist:
    @pytest.mark.parametrize(
        ("text", "genres", "mapped"),
        [
            ("rock", ("ROCK",), False),
            ("Death Metal", ("ROCK",), True),
            ("Grindcore", ("ROCK",), True),
            ("techno; Metal", ("Electronic", "ROCK"), True),
            ("Psychadelic", (), False),
            ("Hip-Hop/Rap", ("Rap",), False),
            ("Pop/Rock", ("ROCK",), False),
            ("Electronica", ("Electronic",), True),
            ("Other", ("Other",), False),
            ("Misc", (), False),
        ],
    )
    def test_nearest_ancestor(self, text: str, genres: tuple[str, ...], mapped: bool) -> None:
        names = GenreNames(shipped_aliases(), ["ROCK", "Electronic", "Rap", "Other"], TREE)
        reading = names.read(text)
        assert (reading.genres, reading.mapped) == (genres, mapped)

    def test_the_nearest_of_several(self) -> None:
        assert GenreNames({}, ["Rock", "Metal"], TREE).read("Grindcore").genres == ("Metal",)

    def test_an_alias_may_lead_into_the_tree(self) -> None:
        assert GenreNames({"DM": "Death Metal"}, ["Rock"], TREE).read("dm").genres == ("Rock",)

    def test_what_the_whitelist_leaves_out_is_not_unknown(self) -> None:
        names = GenreNames({"Hip Hop": "Hip-Hop", "Misc": ""}, ["Rock"], TREE)
        reading = names.read("Jazz; hip hop; Hip-Hop; Zamrock; Misc; Rock")
        assert (reading.genres, reading.left_out, reading.unknown) == (
            ("Rock",),
            ("Jazz", "hip hop", "Hip-Hop"),
            ("Zamrock",),
        )

    def test_words_that_nothing_else_knows(self) -> None:
        names = GenreNames(shipped_aliases(), ["Rokc", "jazz", "Zamrock"])
        assert names.strangers == ("Rokc", "Zamrock")
        assert names.read("Zamrock").genres == ("Zamrock",)

    def test_a_circle(self) -> None:
        tree = {"Top": "Any", "a": "B", "b": "C", "c": "A"}
        with pytest.raises(ConfigError, match=r"circle: a -> b -> c -> a\."):
            GenreNames({}, ["Rock"], tree)
        with pytest.raises(ConfigError, match="circle: a -> a"):
            GenreNames({}, ["Rock"], {"a": "A"})

    def test_a_deep_tree(self) -> None:
        tree = {f"g{number}": f"g{number + 1}" for number in range(20_000)}
        assert GenreNames({}, ["g20000"], tree).read("g0").genres == ("g20000",)


class TestFiles:
    def test_aliases(self) -> None:
        data = '\ufeffspelling,genre\n# Ours\nKrautpop,Pop\n"A, B & C",Rock\n\nMisc,\nHipHop,Rap\n'.encode()
        own = read_aliases(data, "a.csv")
        assert own == {"Krautpop": "Pop", "A, B & C": "Rock", "Misc": "", "HipHop": "Rap"}
        names = GenreNames(merge_aliases(shipped_aliases(), own))
        assert names.read("Hip Hop; krautpop; A, B & C; Electronica").genres == ("Rap", "Pop", "Rock", "Electronic")

    def test_own_lines_replace(self) -> None:
        assert merge_aliases({"Hip Hop": "x", "b": "c"}, {"hiphop": "y"}) == {"hiphop": "y", "b": "c"}

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"Krautpop,Pop\n", "spelling,genre"),
            (b"spelling,genre\nKrautpop\n", "line 2"),
            (b"spelling,genre\na,b,c\n", "line 2"),
            (b"spelling,genre\n,b\n", "line 2"),
            (b"spelling,genre\nHip Hop,Rap\nhiphop,Pop\n", "line 3"),
            (b"spelling,genre\n\n\xff,b\n", "line 3: byte 16 is not UTF-8"),
            (b"# ours\nspelling;genre\nzam-rock;Rock\n", "line 2: semicolons"),
            (b"spelling,genre\n" + b'"' + b"x" * 200_000, "CSV"),
        ],
    )
    def test_aliases_that_are_none(self, data: bytes, said: str) -> None:
        with pytest.raises(ConfigError, match=f"^a.csv.*{re.escape(said)}") as caught:
            read_aliases(data, "a.csv")
        assert len(str(caught.value)) < 300

    def test_tree(self) -> None:
        assert read_tree(b"genre,parent\nMetal,Rock\nRock,\nmetal,rock\n", "t.csv") == {"Metal": "Rock"}
        with pytest.raises(ConfigError, match=r"t\.csv, line 3"):
            read_tree(b"genre,parent\nMetal,Rock\nmetal,Noise\n", "t.csv")
        with pytest.raises(ConfigError, match=r"^t\.csv, line 3: .* Metal -> Rock -> Metal; correct") as caught:
            read_tree(b"genre,parent\nPop,Metal\nMetal,rock\nRock,METAL\n", "t.csv")
        assert str(caught.value).isprintable()
        with pytest.raises(ConfigError, match=r"^t\.csv, line 1: semicolons"):
            read_tree(b"genre;parent\nMetal;Rock\n", "t.csv")

    def test_whitelist(self) -> None:
        assert read_whitelist("# ours\nRock\n\n hip hop \nHip-Hop\nÉtude\n".encode(), "w") == (
            "Rock",
            "Hip-Hop",
            "Étude",
        )
        for data in (b"", b"# none\n \n"):
            with pytest.raises(ConfigError, match=r"^w: .*no genre"):
                read_whitelist(data, "w")
