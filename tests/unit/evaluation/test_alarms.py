from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.errors import ConfigError
from mgc.evaluation.alarms import (
    Observed,
    Thresholds,
    alarms,
    shares,
    thresholds,
    total_variation,
    unwatched,
    watched,
)

QUIET = Observed(
    genre_counts={"Rock": 6000, "Jazz": 4000},
    previous_genre_counts={"Rock": 5900, "Jazz": 4100},
    run_genre_counts={"Rock": 700, "Jazz": 400},
    training_genre_share={"Rock": 0.5, "Jazz": 0.3, "Folk": 0.2},
    first_tries=1000,
    quarantined=140,
    no_music=120,
    fetch_failed=5,
    run_confidence=0.7,
    run_confidences=1100,
    previous_confidence=0.72,
    previous_confidences=10_000,
    relabeled=500,
    flips=50,
)


def names(seen: Observed, limits: Thresholds | None = None) -> list[str]:
    return [alarm.name for alarm in alarms(seen, limits or Thresholds())]


def test_the_values_of_a_quiet_night() -> None:
    assert watched(QUIET, Thresholds()) == pytest.approx(
        {
            "genre_mix_last_night": 0.01,
            "genre_mix_of_run": 7 / 11 - 0.59,
            "genre_mix_training": 0.2,
            "quarantined": 0.02,
            "no_music": 0.12,
            "fetch_failed": 0.005,
            "confidence_drop": 0.02,
            "flips": 0.1,
        }
    )
    assert names(QUIET) == []


def test_every_threshold_is_watched() -> None:
    limits = {field.name for field in fields(Thresholds)}
    assert limits == {*watched(Observed(), Thresholds()), "mix_tracks", "share_tracks"}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("genre_mix_last_night", {"genre_counts": {"Rock": 6500, "Jazz": 3500}}, "6.0 % away"),
        ("genre_mix_of_run", {"run_genre_counts": {"Jazz": 1000}}, "Jazz 41.0 % → 100.0 %, Rock 59.0 % → 0.0 %"),
        ("genre_mix_training", {"training_genre_share": {"Folk": 1.0}}, "100.0 % away from the training set's"),
        ("quarantined", {"quarantined": 171}, "51 of 1,000 files (5.1 %)"),
        ("no_music", {"quarantined": 221, "no_music": 201}, "201 of 1,000 files (20.1 %)"),
        ("fetch_failed", {"fetch_failed": 11}, "11 of 1,000 files (1.1 %) did not arrive; the threshold is 1.0 %"),
        ("confidence_drop", {"run_confidence": 0.66}, "0.660, 0.060 lower than in the table before (0.720)"),
        ("flips", {"flips": 101}, "101 of 500 tracks (20.2 %)"),
    ],
)
def test_each_alarm(name: str, change: dict[str, object], words: str) -> None:
    [alarm] = alarms(replace(QUIET, **change), Thresholds())
    assert alarm.name == name
    assert alarm.value > alarm.threshold == getattr(Thresholds(), name)
    assert words in alarm.message
    assert alarm.message.endswith(".")
    assert "\n" not in alarm.message
    assert names(replace(QUIET, **change), thresholds({name: "1"})) == []


def test_a_value_at_the_threshold_is_no_alarm() -> None:
    assert names(replace(QUIET, quarantined=170)) == []
    assert names(replace(QUIET, quarantined=170), Thresholds(quarantined=0.0499)) == ["quarantined"]
    assert names(replace(QUIET, quarantined=220, no_music=200)) == []


def test_few_tracks_raise_no_alarm() -> None:
    few = Observed(
        {"Rock": 999}, {"Jazz": 999}, {"Folk": 999}, {"Soul": 1.0}, 99, 98, 40, 58, 0.1, 999, 0.9, 999, 99, 99
    )  # fmt: skip
    assert set(watched(few, Thresholds()).values()) == {None}
    assert names(few) == []
    assert len(names(few, Thresholds(mix_tracks=999, share_tracks=99))) == 8


RELABELED = Observed(relabeled=49, flips=49)
"""A new bundle on few tracks."""


def test_a_threshold_that_a_person_sets_has_no_floor() -> None:
    limits = thresholds({"flips": "0.01"})
    assert names(RELABELED, limits) == []
    [alarm] = alarms(RELABELED, limits, ("flips",))
    assert (alarm.name, alarm.value, alarm.threshold) == ("flips", 1.0, 0.01)
    # Unless the person sets the floor as well.
    assert alarms(RELABELED, limits, ("flips", "share_tracks")) == []
    few = Observed({"Rock": 3}, {"Jazz": 3}, {"Rock": 3}, run_confidence=0.1, run_confidences=3)
    few = replace(few, previous_confidence=0.9, previous_confidences=3)
    mixes = ("genre_mix_last_night", "genre_mix_of_run", "confidence_drop")
    assert [alarm.name for alarm in alarms(few, Thresholds(), mixes)] == list(mixes)


def test_an_alarm_that_is_not_watched_says_why() -> None:
    found = {each.name: each for each in unwatched(RELABELED, Thresholds())}
    assert found.keys() == {name for name, value in watched(RELABELED, Thresholds()).items() if value is None}
    assert re.search(r"\b49 tracks\b.*\b100\b.*share_tracks", found["flips"].reason)
    # It matters if it is past its threshold, or if a person waits for it.
    assert [each.name for each in found.values() if each.matters] == ["flips"]
    asked = unwatched(Observed(), Thresholds(), ("flips",))
    assert [each.name for each in asked if each.matters] == ["flips"]
    assert "labelled again" in next(each.reason for each in asked if each.matters)
    assert unwatched(QUIET, Thresholds()) == []
    assert all(each.reason for each in unwatched(Observed(), Thresholds()))


@pytest.mark.parametrize("tracks", [1, 3, 99])
def test_a_run_in_which_everything_fails_is_no_success(tracks: int) -> None:
    first = Observed(first_tries=tracks, quarantined=tracks)
    assert names(first) == ["quarantined"]
    assert names(replace(first, fetch_failed=tracks)) == ["quarantined", "fetch_failed"]
    assert names(first, thresholds({"quarantined": "1"})) == []
    assert names(replace(first, quarantined=tracks - 1)) == []
    # Not even if there is no music in any of them, or in the few that could be decoded.
    assert names(replace(first, no_music=tracks)) == ["quarantined", "no_music"][: 1 + (tracks >= 100)]
    assert names(replace(first, no_music=tracks - 1)) == ["quarantined"]
    assert "none got a label" in alarms(first, Thresholds())[0].message
    # Tracks that failed before raise no alarm.
    assert names(Observed()) == []


def test_a_first_night_is_held_against_the_training_set_only() -> None:
    first = replace(QUIET, previous_genre_counts=None, previous_confidence=None, relabeled=0, flips=0)
    values = watched(first, Thresholds())
    assert {name for name, value in values.items() if value is not None} == {
        "genre_mix_training", "quarantined", "no_music", "fetch_failed"
    }  # fmt: skip


def test_a_table_that_was_empty_before_is_compared_with_nothing() -> None:
    values = watched(replace(QUIET, previous_genre_counts={}), Thresholds())
    assert values["genre_mix_last_night"] is values["genre_mix_of_run"] is None


def test_more_confidence_is_no_drop() -> None:
    assert watched(replace(QUIET, run_confidence=0.99), Thresholds(confidence_drop=0))["confidence_drop"] == 0


COUNTS = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 1000), min_size=1)


@given(COUNTS, COUNTS)
def test_total_variation_is_the_share_of_tracks_to_move(these: dict[str, int], those: dict[str, int]) -> None:
    p, q = shares(these), shares(those)
    distance = total_variation(p, q)
    assert distance == pytest.approx(sum(max(0.0, p.get(name, 0.0) - q.get(name, 0.0)) for name in "abcd"))
    assert distance == total_variation(q, p)
    assert -1e-9 <= distance <= 1 + 1e-9
    assert total_variation(p, p) == 0


def test_shares_of_nothing() -> None:
    assert shares({}) == shares({"a": 0}) == {}


def test_thresholds_from_a_command_line() -> None:
    assert thresholds({}) == Thresholds()
    assert thresholds({"flips": "0.3", "mix_tracks": "50"}) == Thresholds(flips=0.3, mix_tracks=50)


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"flip": "0.3"}, "there is no alarm 'flip'; the alarms are genre_mix_last_night, "),
        ({"flips": "1.5"}, "alarm flips: '1.5'"),
        ({"flips": "-1"}, "alarm flips: '-1'"),
        ({"flips": "nan"}, "alarm flips: 'nan'"),
        ({"flips": "5 %"}, "alarm flips: '5 %'"),
        ({"flips": ""}, "alarm flips: ''"),
        ({"mix_tracks": "0"}, "alarm mix_tracks: '0'"),
        ({"mix_tracks": "1.5"}, "alarm mix_tracks: '1.5'"),
    ],
)
def test_wrong_thresholds_are_refused_in_one_line(given_: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        thresholds(given_)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
