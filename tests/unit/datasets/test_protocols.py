"""Every kind of protocol: one side a row, groups whole, nobody moved by newcomers."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mgc.configuration import to_json
from mgc.datasets import protocols
from mgc.datasets.protocols import SIDES, ByGroup, ClipRandom, GivenSplits, ProtocolConfig, name_of, splits

SCHEMA = pa.schema(
    [("track_id", pa.string()), ("clip_index", pa.int32()), ("artist_id", pa.string()), ("split", pa.string())]
)
SHARES = {"validation_share": st.sampled_from([0.0, 0.2, 0.45]), "test_share": st.sampled_from([0.0, 0.3, 0.5])}
SEEDS = {"seed": st.integers(0, 9)}

BY_HASH = st.one_of(
    st.builds(ClipRandom, **SHARES, **SEEDS),
    st.builds(ByGroup, kind=st.sampled_from(["track", "artist"]), **SHARES, **SEEDS),
    st.builds(ByGroup, kind=st.sampled_from(["track", "artist"]), folds=st.just(5), fold=st.integers(0, 4), **SEEDS),
)
TRACKS = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=3), st.sampled_from(["a", "b", "c", "", None])
    ),
    unique_by=lambda track: track[0],
    max_size=8,
)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Clips of some tracks in any order; a track has one artist, or none that is known."""
    rows = [
        {"track_id": track, "clip_index": clip, "artist_id": artist, "split": draw(st.sampled_from([*SIDES, None]))}
        for track, artist in draw(TRACKS)
        for clip in range(draw(st.integers(1, 3)))
    ]
    return pa.Table.from_pylist(draw(st.permutations(rows)), schema=SCHEMA)


def group_of(row: dict[str, Any], protocol: ProtocolConfig) -> Any:
    if isinstance(protocol, ClipRandom):
        return row["track_id"], row["clip_index"]
    if protocol.kind == "artist" and row["artist_id"]:
        return "artist", row["artist_id"]
    return "track", row["track_id"]


@given(tables(), BY_HASH)
def test_each_row_has_one_side_and_no_group_is_divided(table: pa.Table, protocol: ProtocolConfig) -> None:
    found = splits(table, protocol).to_pylist()
    assert len(found) == table.num_rows
    assert set(found) <= set(SIDES)
    sides = defaultdict(set)
    for row, side in zip(table.to_pylist(), found, strict=True):
        sides[group_of(row, protocol)].add(side)
    assert all(len(of_group) == 1 for of_group in sides.values())


@given(tables(), tables(), BY_HASH)
def test_rows_that_are_added_move_no_others(table: pa.Table, more: pa.Table, protocol: ProtocolConfig) -> None:
    """Also block by block, as a stream sees them."""
    together = splits(pa.concat_tables([more, table]), protocol).to_pylist()
    assert together == splits(more, protocol).to_pylist() + splits(table, protocol).to_pylist()


@given(tables(), st.sampled_from(["track", "artist"]), st.integers(3, 7), st.integers(0, 9))
def test_folds_partition(table: pa.Table, kind: Any, folds: int, seed: int) -> None:
    runs = [splits(table, ByGroup(kind=kind, folds=folds, fold=fold, seed=seed)).to_pylist() for fold in range(folds)]
    for of_row in zip(*runs, strict=True):
        assert Counter(of_row) == {"test": 1, "validation": 1, "train": folds - 2}


def test_the_side_is_that_of_the_hash() -> None:
    table = pa.Table.from_pylist([{"track_id": f"t{n}", "artist_id": f"a{n}"} for n in range(200)], schema=SCHEMA)
    protocol = ByGroup(kind="artist", validation_share=0.25, test_share=0.5, seed=3)
    for row, side in zip(table.to_pylist(), splits(table, protocol).to_pylist(), strict=True):
        digest = hashlib.sha256(f"3:artist:{row['artist_id']}".encode()).hexdigest()
        at = int(digest[:16], 16) / 16**16
        assert side == ("test" if at < 0.5 else "validation" if at < 0.75 else "train")
    folds = splits(table, ByGroup(kind="track", folds=4, fold=3)).to_pylist()
    for row, side in zip(table.to_pylist(), folds, strict=True):
        part = int(hashlib.sha256(f"0:track:{row['track_id']}".encode()).hexdigest()[:16], 16) * 4 // 16**16
        assert side == {3: "test", 0: "validation"}.get(part, "train")


@pytest.mark.parametrize(
    "protocol",
    [ClipRandom(0.025, 0.1), ByGroup(0.025, 0.1, kind="track"), ByGroup(0.025, 0.1, kind="artist", seed=7)],
)
def test_the_shares_hold_about(protocol: ProtocolConfig) -> None:
    count = 20_000
    names = [str(number) for number in range(count)]
    table = pa.table({"track_id": names, "artist_id": names, "clip_index": [0] * count})
    found = Counter(splits(table, protocol).to_pylist())
    for side, share in {"validation": 0.025, "test": 0.1, "train": 0.875}.items():
        assert abs(found[side] - share * count) < 4 * np.sqrt(share * (1 - share) * count)


def test_clips_of_a_track_fall_on_both_sides_and_tracks_of_an_artist_too() -> None:
    rows = [{"track_id": "t", "clip_index": clip, "artist_id": "a"} for clip in range(60)]
    assert set(splits(pa.Table.from_pylist(rows, schema=SCHEMA), ClipRandom()).to_pylist()) == set(SIDES)
    rows = [{"track_id": f"t{number}", "clip_index": 0, "artist_id": "a"} for number in range(60)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    assert set(splits(table, ByGroup(kind="track")).to_pylist()) == set(SIDES)
    assert len(set(splits(table, ByGroup(kind="artist")).to_pylist())) == 1


@given(tables(), BY_HASH)
def test_a_refit_trains_on_validation_and_tests_on_the_same(table: pa.Table, protocol: ProtocolConfig) -> None:
    for chosen in (protocol, GivenSplits()):
        sides = splits(table, chosen).to_pylist()
        joined = splits(table, replace(chosen, refit=True)).to_pylist()
        assert joined == ["train" if side == "validation" else side for side in sides]


def test_given_splits_stand_as_they_are() -> None:
    """Also names that nobody foresaw; a row without one stands on no side."""
    table = pa.table({"track_id": ["a", "b", "c", "d"], "split": ["train", None, "", "fold3"]})
    assert splits(table, GivenSplits()).to_pylist() == ["train", None, None, "fold3"]
    assert splits(table.select(["track_id"]), GivenSplits()).to_pylist() == [None] * 4


def test_what_others_write_is_divided_the_same() -> None:
    """Other string types, wider indices, absent columns; a row without a track id stands on no side."""
    table = pa.table({"track_id": ["a", "b", "c"], "clip_index": pa.array([0, 1, 2], pa.int32())})
    other = pa.table(
        {
            "track_id": pa.chunked_array([pa.array([text]).dictionary_encode() for text in "abc"]),
            "clip_index": pa.array([0, 1, 2], pa.int64()),
            "artist_id": pa.array([None, "", None], pa.large_string()),
        }
    )
    for protocol in (ClipRandom(0.3, 0.3), ByGroup(0.3, 0.3, kind="track"), ByGroup(0.3, 0.3, kind="artist")):
        assert splits(other, protocol).to_pylist() == splits(table, protocol).to_pylist()
    assert splits(pa.table({"track_id": pa.array([None, ""], pa.string())}), ByGroup()).to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "track", "validation_share": 0.5, "test_share": 0.5}, "leave nothing to train on"),
        ({"kind": "artist", "folds": 5, "fold": 5}, "fold 5 of 5 folds: folds count from 0"),
        ({"kind": "artist", "fold": 1}, "set protocol.folds too"),
        ({"kind": "artist", "folds": 2}, "greater than or equal to 3"),
        ({"kind": "clip_random", "folds": 5}, "unexpected"),
        ({"kind": "given", "test_share": 0.1}, "unexpected"),
        ({"kind": "random"}, "given"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(ProtocolConfig).validate_python(fields)


PAPERS = {name: value for name, value in vars(protocols).items() if name.startswith("PAPER_")}


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_protocols(name: str) -> None:
    protocol = PAPERS[name]
    assert TypeAdapter(ProtocolConfig).validate_python(to_json(protocol)) == protocol
    protocols.check_protocol(protocol)
    assert protocol.unit == ("clips" if name in ("PAPER_A", "PAPER_D") else "tracks")
    train = 1 - protocol.validation_share - protocol.test_share
    printed = {"A": 0.95, "B": 0.6, "B_FEATURES": 0.8, "C": 0.72, "D": 0.8, "E": 0.8}
    assert train == pytest.approx(printed[name.removeprefix("PAPER_")])


def test_a_protocol_in_words() -> None:
    assert name_of(GivenSplits()) == "given: the splits of the catalog"
    assert name_of(protocols.PAPER_A) == ("clip_random: 0.025 validation, 0.025 test, seed 0; leak asked for: track")
    assert name_of(ByGroup(kind="artist", folds=5, fold=2, seed=1)) == "artist: fold 2 of 5, seed 1"
