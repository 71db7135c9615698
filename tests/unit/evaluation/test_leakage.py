"""What stands on both sides, and what of the scored music was trained on."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from mgc.datasets.protocols import ByGroup, ClipRandom, GivenSplits
from mgc.datasets.roster import COLUMNS, Roster, count_rows
from mgc.errors import LeakageError
from mgc.evaluation.leakage import (
    Crossing,
    Overlap,
    TrainedGroups,
    check_division,
    check_overlap,
    find_crossing,
    measure_overlap,
    warn_of_overlap,
)
from tests.support import tiny_features

SCHEMA = pa.schema([(name, pa.int32() if name == "clip_index" else pa.string()) for name in COLUMNS])


def roster(*rows: tuple[str, str | None, str]) -> Roster:
    """From track, artist and split."""
    made = [
        {"track_id": track, "artist_id": artist, "split": split, "genre_top": "Rock", "clip_index": clip}
        for clip, (track, artist, split) in enumerate(rows)
    ]
    return count_rows(pa.Table.from_pylist(made, schema=SCHEMA).to_batches(), GivenSplits())


TORN = roster(
    ("t1", "a1", "train"), ("t1", "a1", "train"), ("t1", "a1", "test"), ("t2", "a2", "train"),
    ("t3", "a2", "validation"), ("t6", "a1", "validation"), ("t4", None, "test"), ("t5", "a3", "test"),
    ("t7", "a4", "test"), ("t8", "a4", "elsewhere"), ("t9", None, "train"),
)  # fmt: skip
APART = roster(("t1", "a1", "train"), ("t2", "a2", "test"), ("t3", None, "validation"), ("t4", None, "test"))


def overlap(
    tracks: int, heard: int, by_artist: int, unknown: int, track: str | None = None, artist: str | None = None
) -> Overlap:
    return Overlap(
        tracks=tracks,
        tracks_heard=heard,
        artists_heard=by_artist,
        artists_unknown=unknown,
        example_track=track,
        example_artist=artist,
    )


def test_groups_on_more_than_one_side() -> None:
    """Of the three sides: a row elsewhere is on none."""
    assert find_crossing(TORN, "track") == Crossing("track", 1, "t1", ("train", "test"))
    assert find_crossing(TORN, "artist") == Crossing("artist", 2, "a1", ("train", "validation", "test"))
    assert find_crossing(APART, "track") == Crossing("track", 0)
    assert find_crossing(APART, "artist") == Crossing("artist", 0)


def test_what_was_heard() -> None:
    groups = TrainedGroups.of(TORN)
    assert measure_overlap(TORN, "test", groups) == overlap(4, 1, 1, 1, "t1", None)
    assert measure_overlap(TORN, "validation", groups) == overlap(2, 0, 2, 0, None, "a1")
    assert measure_overlap(TORN, "train", groups) == overlap(3, 3, 3, 1, "t1", None)
    assert measure_overlap(TORN, "nothing", groups) == overlap(0, 0, 0, 0)
    assert measure_overlap(APART, "test", TrainedGroups.of(APART)) == overlap(2, 0, 0, 1)


def test_other_features_are_compared_too() -> None:
    assert measure_overlap(
        roster(("new", "a2", "test"), ("t2", "x", "test")), "test", TrainedGroups.of(TORN)
    ) == overlap(2, 1, 2, 0, "t2", "a2")


def test_a_track_and_an_artist_of_one_name_are_two_groups() -> None:
    assert measure_overlap(roster(("a1", "t1", "test")), "test", TrainedGroups.of(TORN)) == overlap(1, 0, 0, 0)


def test_the_hashes_are_those_of_the_names() -> None:
    names = ("artist:a1", "artist:a2", "track:t1", "track:t2", "track:t9")
    wanted = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True) for name in names]
    assert TrainedGroups.of(TORN).hashes.tolist() == sorted(wanted)
    assert TrainedGroups.of(TORN).hashes.dtype == np.int64


@given(st.sets(st.text(st.characters(codec="utf-8"), min_size=1), max_size=20))
def test_groups_there_and_back(tracks: set[str]) -> None:
    groups = TrainedGroups.of(roster(*((track, None, "train") for track in tracks)))
    again = TrainedGroups.from_bytes(groups.to_bytes())
    np.testing.assert_array_equal(again.hashes, groups.hashes)
    if tracks:
        side = roster(*((track, None, "test") for track in tracks))
        assert measure_overlap(side, "test", again).tracks_heard == len(tracks)


@pytest.mark.parametrize(
    "data",
    [
        b"no safetensors",
        save({"other": np.arange(3)}),
        save({"groups": np.arange(3, dtype=np.int32)}),
        save({"groups": np.array([2, 1])}),
        save({"groups": np.array([[1]])}),
    ],
)
def test_damaged_groups_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"safetensors|sorted row of int64"):
        TrainedGroups.from_bytes(data)


def refusal(*arguments: object) -> str:
    with pytest.raises(LeakageError) as raised:
        (check_overlap if isinstance(arguments[0], Overlap) else check_division)(*arguments)  # type: ignore[arg-type]
    return str(raised.value)


def test_a_division_with_more_on_both_sides_than_asked_for_is_refused() -> None:
    for leak in ("none", "artist"):
        assert refusal(TORN, leak, "given", "s3://f") == (
            "s3://f: under the protocol 'given' 1 track stands on more than one side, for example track 't1' in train "
            "and test; divide by artist (--protocol.kind artist), or ask for the leak by name: --protocol.leak track."
        )
    artists = roster(("t1", "a", "train"), ("t2", "a", "validation"), ("t3", "a", "test"), *[
        (f"t{n}", "b", ("train", "test")[n % 2]) for n in (4, 5)
    ])  # fmt: skip
    assert refusal(artists, "none", "track", "f") == (
        "f: under the protocol 'track' 2 artists stand on more than one side, for example artist 'a' in train, "
        "validation and test; divide by artist (--protocol.kind artist), or ask for the leak by name: "
        "--protocol.leak artist."
    )
    assert "give each track one artist_id" in refusal(TORN, "none", "artist", "f")
    assert check_division(artists, "artist", "track", "f")[1].count == 2
    assert check_division(TORN, "track", "given", "f")[0].count == 1
    assert check_division(APART, "none", "given", "f") == (Crossing("track", 0), Crossing("artist", 0))


def test_scoring_what_was_trained_on_is_refused() -> None:
    tracks, artists = overlap(10, 3, 5, 0, "t1", "a1"), overlap(10, 0, 5, 0, None, "a1")
    for leak in ("none", "artist"):
        assert refusal(tracks, leak, "test", "f") == (
            "f: 3 of 10 tracks of the split 'test' were trained on, for example 't1'; score what the bundle has "
            "not heard (another --split, --protocol or --features), or ask for the leak by name: --protocol.leak track."
        )
    assert "5 of 10 tracks of the split 'test' are by artists trained on, for example 'a1'" in refusal(
        artists, "none", "test", "f"
    )
    check_overlap(artists, "artist", "test", "f")
    check_overlap(tracks, "track", "test", "f")
    check_overlap(overlap(10, 0, 0, 10), "none", "test", "f")


def test_what_is_said_in_red() -> None:
    assert warn_of_overlap(overlap(10, 0, 0, 4), "test", "tracks") == ""
    assert warn_of_overlap(overlap(40, 39, 40, 0), "test", "clips") == (
        "LEAK, asked for: other clips of 97.5 % of 40 tracks of the split “test” were heard in training, 100.0 % "
        "are by artists heard in training. The score is no guide to new music."
    )
    assert warn_of_overlap(overlap(10, 10, 10, 0), "train", "tracks") == (
        "LEAK, asked for: 100.0 % of 10 tracks of the split “train” were heard in training. The score is no guide "
        "to new music."
    )
    assert warn_of_overlap(overlap(10, 0, 5, 0), "test", "tracks") == (
        "LEAK, asked for: 50.0 % of 10 tracks of the split “test” are by artists heard in training. The score is "
        "no guide to new music."
    )


@given(st.integers(0, 50), st.sampled_from(["clip_random", "track", "artist"]))
def test_each_kind_leaks_no_more_than_its_name_says(seed: int, kind: str) -> None:
    protocol = ClipRandom(0.3, 0.3, seed) if kind == "clip_random" else ByGroup(0.3, 0.3, seed, kind=kind)  # type: ignore[arg-type]
    divided = count_rows(tiny_features.rows().select(COLUMNS).to_batches(), protocol)
    tracks, artists = find_crossing(divided, "track").count, find_crossing(divided, "artist").count
    assert (tracks > 0) == (kind == "clip_random")
    assert (artists > 0) == (kind != "artist")
    found = measure_overlap(divided, "test", TrainedGroups.of(divided))
    assert (found.tracks_heard > 0) == (kind == "clip_random")
    assert kind != "artist" or found.artists_heard == 0
