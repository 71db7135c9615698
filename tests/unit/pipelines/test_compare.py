"""Answers of two bundles brought together; no Ray is started for it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from mgc.bundle import Bundle
from mgc.errors import FeaturesError
from mgc.evaluation.answers import Answers
from mgc.evaluation.intervals import ResamplingGroups
from mgc.taxonomy import Taxonomy
from pipelines import compare
from pipelines.command.job import run
from pipelines.evaluation.compare import describe_comparison, pair_answers
from tests.support import tiny_features

FOLK, ROCK = 0, 1


def bundle(*genres: str) -> Bundle:
    return replace(tiny_features.bundle(tiny_features.EXPERIMENT, None), taxonomy=Taxonomy.flat(genres))


def given(tracks: list[str], truth: list[int], answers: list[int]) -> Answers:
    groups = ResamplingGroups.of([track[0] for track in tracks], "artists")
    return Answers(tracks, np.array(truth), np.eye(2)[answers], groups, "tracks")


def test_tracks_are_matched_by_id_and_genres_by_name() -> None:
    """The second taxonomy has another order, its table two tracks in another order and one more."""
    first = given(["a1", "a2", "b1"], [FOLK, FOLK, ROCK], [FOLK, ROCK, ROCK])
    other = bundle("folk", "rock")
    turned = replace(other, taxonomy=Taxonomy(tuple(reversed(other.taxonomy.genres))))
    assert turned.taxonomy.names == ("rock", "folk")
    second = given(["b1", "a2", "a1", "z9"], [0, 1, 1, 0], [1, 1, 1, 0])
    found = pair_answers([first, second], [bundle("folk", "rock"), turned])
    assert (found.tracks, found.groups) == (3, 2)
    assert (found.both_right, found.only_first, found.only_second, found.neither) == (1, 1, 1, 0)
    assert found.accuracy.first == found.accuracy.second == pytest.approx(2 / 3)
    said = describe_comparison(found)
    assert re.findall(r"\d+", said["tracks"]) == ["3", "2"]
    assert re.findall(r"\+?\d\.\d+", said["accuracy"])[:3] == ["0.667", "0.667", "+0.000"]
    assert "McNemar" in said


def test_tables_that_do_not_agree_are_refused() -> None:
    first, second = given(["a1", "b1"], [FOLK, ROCK], [0, 0]), given(["a1", "b1"], [ROCK, ROCK], [0, 0])
    with pytest.raises(FeaturesError, match=r"a1: folk and rock"):
        pair_answers([first, second], [bundle("folk", "rock")] * 2)


def test_tables_without_a_common_track_are_refused() -> None:
    with pytest.raises(FeaturesError, match="both"):
        pair_answers([given(["a"], [0], [0]), given(["b"], [0], [0])], [bundle("folk", "rock")] * 2)


def test_three_features_tables_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(compare.command, ["default", "default", *["--features", "x"] * 3]) == 2
    assert "--features" in capsys.readouterr().err
