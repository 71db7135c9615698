"""MTG-Jamendo's tables: made here, damaged, and the 55,094 real rows of split 0."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.datasets import jamendo
from mgc.errors import CatalogError

HEADER = "\t".join(jamendo.HEADER)
ROW = "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tgenre---punkrock"


def tsv(*rows: str, end: str = "\r\n") -> bytes:
    return end.join([HEADER, *rows, ""]).encode()


def test_rows_of_different_lengths_and_splits() -> None:
    second = (
        "track_0000215\tartist_000014\talbum_000031\t15/215.mp3\t151\tgenre---metal\tmood/theme---film\tgenre---60s"
    )
    third = "track_1400906\tartist_1\talbum_2\t06/1400906.mp3\t30.0\tinstrument---piano"
    files = {"a/autotagging_genre-train.tsv": tsv(ROW, second), "autotagging-test.tsv": tsv(third, end="\n")}
    assert jamendo.metadata_table(files).to_pydict() == {
        "track_id": ["06/1400906.mp3", "14/214.mp3", "15/215.mp3"],
        "genre_top": [None, "punkrock", None],
        "genres": [None, ["punkrock"], ["metal", "60s"]],
        "artist_id": ["artist_1", "artist_000014", "artist_000014"],
        "album_id": ["album_2", "album_000031", "album_000031"],
        "split": ["test", "train", "train"],
        "subset": [None] * 3,
        "duration_seconds": [30.0, 124.6, 151.0],
    }
    low = jamendo.metadata_table(files, low=True)
    assert low["track_id"].to_pylist() == ["06/1400906.low.mp3", "14/214.low.mp3", "15/215.low.mp3"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("s3://b/split-0/autotagging_genre-train.tsv", "train"),
        ("autotagging-validation.tsv", "validation"),
        ("autotagging_top50tags-test.tsv", "test"),
        ("autotagging_genre.tsv", None),
    ],
)
def test_the_name_tells_the_split(name: str, split: str | None) -> None:
    assert jamendo.metadata_table({name: tsv(ROW)})["split"].to_pylist() == [split]


name = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8)
track = st.builds(
    jamendo.Track,
    track_id=st.integers(1, 10**7).map(lambda number: f"{number % 100:02d}/{number}.mp3"),
    artist_id=st.integers(1, 10**6).map(lambda number: f"artist_{number:06d}"),
    album_id=st.integers(1, 10**6).map(lambda number: f"album_{number:06d}"),
    duration_seconds=st.integers(0, 100_000).map(lambda tenths: tenths / 10),
    genres=st.lists(name, unique=True, max_size=5),
)


@settings(max_examples=60)
@given(
    tracks=st.lists(track, min_size=1, max_size=6, unique_by=lambda each: each.track_id),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_comes_back(tracks: list[jamendo.Track], end: str) -> None:
    rows = [
        "\t".join(
            [
                "track_1",
                each.artist_id,
                each.album_id,
                each.track_id,
                str(each.duration_seconds),
                "instrument---harp",
                *(f"genre---{genre}" for genre in each.genres),
            ]
        )
        for each in tracks
    ]
    assert jamendo.read_tracks(tsv(*rows, end=end), "t") == tracks


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("track_0000214", "0000214", "row 3: TRACK_ID is '0000214', not of the form"),
        ("artist_000014", "artist_x", "row 3: ARTIST_ID is 'artist_x', not of the form"),
        ("album_000031", "", "row 3: ALBUM_ID is '', not of the form"),
        ("14/214.mp3", "../214.mp3", "row 3: PATH is '../214.mp3', not of the form"),
        ("124.6", "nan", "row 3: DURATION is 'nan', not of the form"),
        ("genre---punkrock", "punkrock", "row 3: the tag 'punkrock' is not of the form category---name"),
        ("genre---punkrock", "genre---", "row 3: the tag 'genre---' is not"),
        ("genre---punkrock", "genre---a\tgenre---a", "row 3: the tag 'genre---a' appears twice"),
        ("\tgenre---punkrock", "", "row 3 has 5 fields; it needs five and at least one tag"),
        (ROW, "", "row 3 has 1 fields"),
    ],
)
def test_a_wrong_value_is_named_with_row_and_column(old: str, new: str, told: str) -> None:
    with pytest.raises(CatalogError) as refusal:
        jamendo.metadata_table({"s3://b/x.tsv": tsv(ROW.replace("214", "99"), ROW.replace(old, new))})
    assert str(refusal.value).startswith(f"s3://b/x.tsv: {told}")


@pytest.mark.parametrize("data", [b"", b"\n", b"track_1\tartist_1", HEADER.lower().encode(), b"TRACK_ID,ARTIST_ID\n"])
def test_another_table(data: bytes) -> None:
    with pytest.raises(CatalogError, match=r"^x\.tsv: MTG-Jamendo's tables begin with the columns TRACK_ID, ARTIST_ID"):
        jamendo.metadata_table({"x.tsv": data})


def test_no_text_no_rows() -> None:
    with pytest.raises(CatalogError, match="cannot be read as text in UTF-8"):
        jamendo.metadata_table({"x.tsv": b"\xff" + tsv(ROW)})
    with pytest.raises(CatalogError, match="there is no track"):
        jamendo.metadata_table({"x.tsv": tsv()})


def test_a_track_in_two_splits() -> None:
    with pytest.raises(CatalogError, match=r"^a-train\.tsv, a-test\.tsv: a track_id appears twice: '14/214\.mp3'"):
        jamendo.metadata_table({"a-train.tsv": tsv(ROW), "a-test.tsv": tsv(ROW)})


@given(cut=st.integers(0, 10**6), flip=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_damage_never_raises_anything_else(cut: int, flip: int, byte: int) -> None:
    data = bytearray(tsv(ROW, ROW.replace("214", "215")))
    data[flip % len(data)] = byte
    for damaged in (bytes(data), bytes(data[: cut % len(data)])):
        try:
            assert len(jamendo.read_tracks(damaged, "t")) <= 2
        except CatalogError:
            continue


def test_the_real_split_keeps_artists_and_albums_apart() -> None:
    folder = Path(os.environ.get("MGC_TEST_DATA") or "unset") / "jamendo"
    if not folder.is_dir():
        pytest.skip("MGC_TEST_DATA names no folder with jamendo/*.tsv")
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.tsv"))}
    started = time.process_time()
    table = jamendo.metadata_table(files)
    assert time.process_time() - started < 10
    assert table.num_rows == 55_094
    counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(table["split"]).to_pylist()}
    assert counts == {"train": 32_572, "validation": 11_043, "test": 11_479}
    for group, groups in (("artist_id", 3_546), ("album_id", 11_186)):
        sides = table.group_by(group).aggregate([("split", "count_distinct")])
        assert sides.num_rows == groups
        assert pc.max(sides["split_count_distinct"]).as_py() == 1
    assert len(pc.unique(pc.list_flatten(table["genres"]))) == 87
    assert table["genres"].null_count == 0
    assert len(table) - table["genre_top"].null_count == 11_946
