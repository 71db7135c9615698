"""FMA's tables: as its authors wrote them (`tests.support.fma_files`), damaged, and the real genres.csv."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.datasets import fma
from mgc.datasets.splits import TEST, TRAIN, VALIDATION
from mgc.errors import CatalogError
from tests.support.fma_files import GENRES, NAMES, TITLES, Row, genres_csv, tracks_csv

KNOWN = fma.read_genres(genres_csv(), "genres.csv")

ROWS = (
    Row(2, "Hip-Hop", (21,), artist_id=1, album_id=1, subset="small", duration=168, text='<p>A "Way"\nof, Life</p>'),
    Row(5, "Rock", (12, 25, 109), artist_id=2, album_id=-1, split="validation", subset="medium", duration=29),
    Row(98567, "Rock", (12,), artist_id=3, split="test", subset="small", duration=600),
    Row(134, None, (12, 21), artist_id=4, duration=None, text="ünïcode, \r\n and more"),
    Row(155320, None, (), artist_id=4, split=None),
)


def test_a_table_as_its_authors_wrote_it() -> None:
    data = tracks_csv(ROWS)
    head = data.decode().split("\n")
    assert head[0].startswith(",album,album,")
    assert head[1].startswith(",comments,date_created,")
    assert head[2] == "track_id" + "," * len(NAMES)
    assert len(NAMES) == 52
    table = fma.metadata_table(data, KNOWN, "tracks.csv", "medium")
    # In order of the path, whatever the order of the file.
    assert table.to_pydict() == {
        "track_id": ["000/000002.mp3", "000/000005.mp3", "000/000134.mp3", "098/098567.mp3", "155/155320.mp3"],
        "genre_top": ["Hip-Hop", "Rock", None, "Rock", None],
        "genres": [["Hip-Hop"], ["Rock", "Punk", "Hardcore"], ["Rock", "Hip-Hop"], ["Rock"], None],
        "artist_id": ["1", "2", "4", "3", "4"],
        "album_id": ["1", None, "1", "1", "1"],
        "split": [TRAIN, VALIDATION, TRAIN, TEST, None],
        "subset": ["small", "medium", "large", "small", "large"],
        # A clip of 30 s, a whole track, one of unknown length, a clip of the errata, another clip.
        "duration_seconds": [30.0, 29.0, None, 0.5, 30.0],
    }


def test_durations_are_those_of_the_archive() -> None:
    def durations(audio: fma.Subset | None) -> list[float | None]:
        return fma.metadata_table(tracks_csv(ROWS), KNOWN, "t", audio)["duration_seconds"].to_pylist()

    assert durations("full") == [168.0, 29.0, None, 600.0, 200.0]
    assert durations(None) == [None] * 5


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=30)
row = st.builds(
    Row,
    track_id=st.integers(1, 999_999),
    genre_top=st.sampled_from([None, *(title for number, _, parent, title, _ in GENRES if not parent)]),
    genres_all=st.lists(st.sampled_from(sorted(TITLES)), unique=True, max_size=4).map(tuple),
    artist_id=st.integers(0, 10**7),
    album_id=st.integers(-1, 10**7),
    split=st.sampled_from(["training", "validation", "test", None]),
    subset=st.sampled_from(["small", "medium", "large"]),
    duration=st.one_of(st.none(), st.integers(0, 20_000)),
    text=st.one_of(st.none(), text, text.map(lambda each: f"{each}\r\n"), text.map(lambda each: f"\r{each},\r")),
)


@settings(max_examples=60)
@given(rows=st.lists(row, min_size=1, max_size=6, unique_by=lambda each: each.track_id))
def test_whatever_people_write_the_facts_come_back(rows: list[Row]) -> None:
    table = fma.metadata_table(tracks_csv(rows), KNOWN, "t", "full")
    ordered = sorted(rows, key=lambda each: each.track_id)
    assert table.to_pylist() == [
        {
            "track_id": fma.track_path(each.track_id),
            "genre_top": each.genre_top,
            "genres": [TITLES[number] for number in each.genres_all] or None,
            "artist_id": str(each.artist_id),
            "album_id": None if each.album_id < 0 else str(each.album_id),
            "split": {"training": "train", None: None}.get(each.split, each.split),
            "subset": each.subset,
            "duration_seconds": each.duration,
        }
        for each in ordered
    ]


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("track__genres_all", "[21, 9999]", "track.genres_all is '[21, 9999]', not of genres.csv's genres, which lack"),
        ("track__genres_all", "21", "track.genres_all is '21', not a list"),
        ("track__genres_all", "[21", "track.genres_all is '[21', not a list"),
        ("track__genre_top", "Punk", "track.genre_top is 'Punk', not one of Experimental, Hip-Hop, Jazz"),
        ("track__duration", "long", "track.duration is 'long', not seconds"),
        ("track__duration", -3, "track.duration is '-3', not seconds"),
        ("artist__id", "AWOL", "artist.id is 'AWOL', not a number"),
        ("album__id", -2, "album.id is '-2', not a number"),
        ("set__split", "train", "set.split is 'train', not one of test, training, validation"),
        ("set__subset", "huge", "set.subset is 'huge', not one of large, medium, small"),
        ("set__subset", None, "set.subset is empty, not one of"),
    ],
)
def test_a_wrong_value_is_named_with_row_track_and_column(column: str, value: object, told: str) -> None:
    with pytest.raises(CatalogError) as refusal:
        fma.metadata_table(tracks_csv(ROWS[:2], **{column: value}), KNOWN, "s3://b/tracks.csv")
    assert str(refusal.value).startswith(f"s3://b/tracks.csv: row 1 after the header (track 2): {told}")
    with pytest.raises(CatalogError, match=r"row 2 after the header \(track 2\)"):
        fma.metadata_table(_second(column, value), KNOWN, "t")


def _second(column: str, value: object) -> bytes:
    """The wrong row behind one with a line break in it."""
    first = tracks_csv((replace(ROWS[1], text="one\ntwo"),))
    return first + tracks_csv((ROWS[0],), **{column: value}).split(b"\n", 3)[3]


@pytest.mark.parametrize("track_id", [0, 1_234_567])
def test_a_wrong_number_of_a_track(track_id: int) -> None:
    with pytest.raises(CatalogError, match=r"t: row 2 after .* track_id is '\d+', not a number of up to six digits"):
        fma.metadata_table(tracks_csv((ROWS[0], Row(track_id))), KNOWN, "t")


def test_a_track_twice() -> None:
    with pytest.raises(CatalogError, match=r"a track_id appears twice: '000/000002\.mp3'"):
        fma.metadata_table(tracks_csv((ROWS[0], ROWS[1], ROWS[0])), KNOWN, "t")


def test_damaged_tables_are_refused_in_one_line() -> None:
    whole = tracks_csv(ROWS)
    lines = whole.split(b"\n")
    damaged = {
        "three header rows": [
            b"",
            b"track_id,title\n2,Food\n",
            b"\n".join(lines[1:]),
            b"\n".join([*lines[:2], *lines[3:]]),
        ],
        "artist.id are missing or repeated": [whole.replace(b",id,latitude", b",number,latitude", 1)],
        "track.duration are missing or repeated": [whole.replace(b",bit_rate,", b",duration,", 1)],
        "there is no track": [b"\n".join(lines[:3]) + b"\n"],
        "Row #1: Expected 53 columns": [b"\n".join([*lines[:3], b"2,0,short row", b""])],
        "UTF": [whole.replace(b"Hip-Hop", b"Hip\xffHop")],
        "cannot be read as CSV": [b"\xff" + whole, whole + b'7,"never ends' + lines[-2]],
    }
    for told, tables in damaged.items():
        for data in tables:
            with pytest.raises(CatalogError) as refusal:
                fma.metadata_table(data, KNOWN, "s3://b/t.csv")
            message = str(refusal.value)
            assert message.startswith("s3://b/t.csv: ")
            assert told in message, (told, message)
            assert len(message) < 600
            assert "\n" not in message


@given(cut=st.integers(0, 10**6), flip=st.integers(0, 10**6), byte=st.integers(0, 255))
@settings(max_examples=60)
def test_damage_never_raises_anything_else(cut: int, flip: int, byte: int) -> None:
    data = bytearray(tracks_csv(ROWS))
    data[flip % len(data)] = byte
    for damaged in (bytes(data), bytes(data[: cut % len(data)])):
        try:
            table = fma.metadata_table(damaged, KNOWN, "t", "full")
        except CatalogError:
            continue
        assert table.num_rows <= len(ROWS) + 1


class TestGenres:
    def test_tree(self) -> None:
        assert KNOWN[109] == fma.FmaGenre(109, "Hardcore", 25, 12, 1419)
        assert KNOWN[12].parent is None
        tree = fma.taxonomy(KNOWN)
        assert [(genre.name, genre.parent) for genre in tree.genres][:3] == [
            ("Avant-Garde", "Experimental"),
            ("Jazz", None),
            ("Old-Time / Historic", None),
        ]

    @pytest.mark.parametrize(
        ("row", "told"),
        [
            ((25, 1, 12, "Punk again", 12), "row 11: genre_id 25 or title 'Punk again' is 0, empty, or used before"),
            ((26, 1, 12, "Punk", 12), "row 11: genre_id 26 or title 'Punk' is 0, empty, or used before"),
            ((26, 1, 12, "", 12), "row 11: genre_id 26 or title '' is 0"),
            ((0, 1, 12, "None", 12), "row 11: genre_id 0"),
            ((26, 1, 126, "Post-Rock", 12), "row 11: genre 26 (Post-Rock) has parent 126, which is not a genre"),
            ((26, 1, 12, "Post-Rock", 38), "row 11: genre 26 (Post-Rock) has top_level 38, but its parents lead to 12"),
            ((763, 1, 763, "Holiday", 763), "row 11: genre 763 (Holiday): its parents form a circle"),
            ((26, "many", 12, "Post-Rock", 12), "row 11: #tracks is 'many', not a whole number"),
            ((26, 1, "", "Post-Rock", 12), "row 11: parent is '', not a whole number"),
            ((26, 1, -1, "Post-Rock", 12), "row 11: parent is '-1', not a whole number"),
        ],
    )
    def test_what_cannot_be(self, row: tuple[object, ...], told: str) -> None:
        with pytest.raises(CatalogError) as refusal:
            fma.read_genres(genres_csv([*GENRES, row]), "s3://b/genres.csv")
        assert str(refusal.value).startswith(f"s3://b/genres.csv: {told}")

    def test_a_longer_circle(self) -> None:
        rows = [(1, 1, 2, "A", 1), (2, 1, 3, "B", 1), (3, 1, 2, "C", 1)]
        with pytest.raises(CatalogError, match=r"row 2: genre 1 \(A\): its parents form a circle"):
            fma.read_genres(genres_csv(rows), "g")

    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", "this file has ."),
            (b"genre_id,genre_color,genre_handle,genre_parent_id,genre_title\n", "this file has genre_id, genre_color"),
            (b"genre_id,#tracks,parent,title,top_level\n", "there is no genre"),
            (b"genre_id,#tracks,parent,title,top_level\n1,2,0\n", "row 2 has 3 fields, the header 5"),
            (b"\xff\xfe", "cannot be read as CSV"),
            (b'genre_id,#tracks,parent,title,top_level\n1,2,0,"Ro', "cannot be read as CSV"),
        ],
    )
    def test_no_such_table(self, data: bytes, told: str) -> None:
        with pytest.raises(CatalogError) as refusal:
            fma.read_genres(data, "g")
        assert told in str(refusal.value)


class TestSubsets:
    def test_cumulative(self) -> None:
        assert fma.subset_names("small") == ("small",)
        assert fma.subset_names("medium") == ("small", "medium")
        assert fma.subset_names("large") == fma.subset_names("full") == ("small", "medium", "large")

    def test_short_clips(self) -> None:
        """Fifteen are empty: the 25,000 of FMA-medium less the 24,985 that Nguyen, Zhang and Zhang could read."""
        assert len(fma.SHORT_CLIPS) == 21
        assert 25_000 - sum(seconds == 0 for seconds in fma.SHORT_CLIPS.values()) == 24_985
        assert max(fma.SHORT_CLIPS.values()) < fma.CLIP_SECONDS
        paths = ["000/000002.mp3", "133/133297.mp3", "other.mp3"]
        assert fma.faulty(paths) == ["133/133297.mp3"]

    def test_paths(self) -> None:
        assert fma.track_path(2) == "000/000002.mp3"
        assert fma.track_path(155320) == "155/155320.mp3"


@pytest.fixture(scope="module")
def real() -> Path:
    folder = Path(os.environ.get("MGC_TEST_DATA") or "unset") / "fma"
    if not folder.is_dir():
        pytest.skip("MGC_TEST_DATA names no folder with fma/genres.csv")
    return folder


def test_the_real_genres(real: Path) -> None:
    genres = fma.read_genres((real / "genres.csv").read_bytes(), "genres.csv")
    assert len(genres) == 163
    assert {genre.title for genre in genres.values() if not genre.tracks} == {"Be-Bop", "Bollywood"}
    tree = fma.taxonomy(genres)
    assert len(tree) == 163
    tops = {genre.name for genre in tree.genres if genre.parent is None}
    assert len(tops) == 16
    depth = max(len(_way_up(genre, genres)) for genre in genres.values())
    assert depth == 5  # Christmas, Holiday, Sound Effects, Novelty, Experimental
    # The raw table is another one, with a second Hip-Hop and parents that are missing.
    with pytest.raises(CatalogError, match="this file has genre_id, genre_color"):
        fma.read_genres((real / "raw_genres.csv").read_bytes(), "raw_genres.csv")
    with (real / "fma_small_genres.csv").open(newline="") as file:
        small = list(csv.DictReader(file))
    assert len(small) == 8_000
    assert {row["genre"] for row in small} < tops
    assert all(row["filename"] == fma.track_path(int(Path(row["filename"]).stem)) for row in small)


def _way_up(genre: fma.FmaGenre, genres: dict[int, fma.FmaGenre]) -> list[fma.FmaGenre]:
    return [genre] if genre.parent is None else [genre, *_way_up(genres[genre.parent], genres)]


def test_the_short_clips_of_small_are_those_that_others_could_not_read(real: Path) -> None:
    mels = real.parent / "fma_small_mels.parquet"
    if not mels.is_file():
        pytest.skip("MGC_TEST_DATA has no fma_small_mels.parquet")
    with (real / "fma_small_genres.csv").open(newline="") as file:
        small = {row["filename"] for row in csv.DictReader(file)}
    read = pq.read_table(mels, columns=["track_id"])["track_id"].cast(pa.int64()).to_pylist()
    assert small - {fma.track_path(number) for number in read} == set(fma.faulty(small))
    assert len(fma.faulty(small)) == 6
