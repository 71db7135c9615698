"""Who stands on which side: counts over the small columns of a features table."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mgc.datasets import roster as room
from mgc.datasets.protocols import ByGroup, ClipRandom, GivenSplits
from mgc.datasets.roster import COLUMNS, Roster, SideSize, count_rows, digest_facts, on_side
from tests.support import tiny_features

ROWS = [
    ("a", "Rock", "x", "training"),
    ("a", "Rock", "x", "training"),
    ("b", "Folk", None, "training"),
    ("c", None, "x", "training"),
    ("d", "Jazz", "", "test"),
    ("e", "Jazz", "y", None),
    ("f", "", "y", "test"),
]


def table() -> pa.Table:
    keys = ("track_id", "genre_top", "artist_id", "split")
    rows = [{"clip_index": number, **dict(zip(keys, row, strict=True))} for number, row in enumerate(ROWS)]
    types = {name: pa.int32() if name == "clip_index" else pa.string() for name in COLUMNS}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(types.items())))


def read(rows: int, protocol: object = None) -> Roster:
    return count_rows(table().to_batches(max_chunksize=rows), protocol or GivenSplits())  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_labelled_clips_on_a_side_are_counted(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_GATHERED_ROWS", 2)
    roster = read(rows)
    assert roster.class_counts("training") == {"Folk": 1, "Rock": 2}
    assert list(roster.class_counts("training")) == ["Folk", "Rock"]
    assert roster.class_counts("test") == {"Jazz": 1}
    assert roster.class_counts("validation") == {}
    assert roster.tracks("training") == ["a", "b"]
    assert roster.size("training") == SideSize(tracks=2, clips=3, artists=1, tracks_of_unknown_artist=1)
    assert roster.size("test") == SideSize(tracks=1, clips=1, artists=0, tracks_of_unknown_artist=1)
    assert roster.size("none") == SideSize(0, 0, 0, 0)


def test_an_empty_table_has_an_empty_roster() -> None:
    assert count_rows([], GivenSplits()).tracks("train") == []


@pytest.mark.parametrize("protocol", [GivenSplits(), ClipRandom(0.2, 0.2), ByGroup(0.2, 0.2, kind="artist")])
def test_the_roster_counts_what_the_stream_takes(protocol: object) -> None:
    rows = tiny_features.rows()
    roster = count_rows(rows.select(COLUMNS).to_batches(max_chunksize=50), protocol)  # type: ignore[arg-type]
    total = 0
    for split in ("train", "validation", "test"):
        taken = rows.filter(on_side(rows, split, protocol))  # type: ignore[arg-type]
        total += taken.num_rows
        assert roster.size(split).clips == taken.num_rows
        assert roster.tracks(split) == sorted(set(taken["track_id"].to_pylist()))
        counts = taken["genre_top"].value_counts().to_pylist()
        assert roster.class_counts(split) == {each["values"]: each["counts"] for each in counts}
    assert total == rows.num_rows


def test_on_a_side_stand_labelled_rows_only() -> None:
    assert on_side(table(), "training", GivenSplits()).to_pylist() == [True, True, True, *[False] * 4]
    assert on_side(table(), "test", GivenSplits()).to_pylist() == [*[False] * 4, True, False, False]


def test_a_limit_takes_tracks_spread_over_each_side() -> None:
    rows = tiny_features.rows()
    roster = count_rows(rows.select(COLUMNS).to_batches(), GivenSplits())
    few = roster.limited(4, ("train", "validation"))
    assert few.tracks("train") == ["t00", "t08", "t16", "t24"]
    assert len(few.tracks("validation")) == 4
    assert few.tracks("test") == roster.tracks("test")
    assert roster.limited(None, ("train",)).tracks("train") == roster.tracks("train")
    assert roster.limited(99, ("train",)).tracks("train") == roster.tracks("train")
    assert set(rows.filter(few.only("train"))["track_id"].to_pylist()) == {"t00", "t08", "t16", "t24"}
    # Clips of one track on both sides: the limit of one side takes nothing from the other.
    torn = count_rows(rows.select(COLUMNS).to_batches(), ClipRandom(0.3, 0.3))
    few = torn.limited(2, ("train",))
    assert len(few.tracks("train")) == 2
    assert few.size("test") == torn.size("test")


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_the_digest_does_not_depend_on_the_order_of_rows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_GATHERED_ROWS", 2)
    backwards = table().take(list(reversed(range(len(ROWS)))))
    assert digest_facts(backwards.to_batches(max_chunksize=rows)) == digest_facts(table().to_batches())


def test_the_digest_covers_whatever_decides_labels_and_sides() -> None:
    digests = {digest_facts(table().to_batches())}
    for name in set(COLUMNS) - {"clip_index"}:
        others = pa.array(["z", *table()[name].to_pylist()[1:]])
        other = table().set_column(table().schema.get_field_index(name), name, others)
        digests.add(digest_facts(other.to_batches()))
    assert len(digests) == len(COLUMNS)
