"""The plan: sizes, splits, artists, metadata. Nothing is rendered here."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict

import pytest
from pydantic import TypeAdapter, ValidationError

from mgc.datasets.synthetic import (
    DAMAGES,
    GENRES,
    SYNTHETIC_NOTICE,
    SyntheticConfig,
    TrackPlan,
    metadata_table,
    plan_corpus,
)

SPLITS = {"train", "validation", "test"}


@pytest.fixture(scope="module")
def plans() -> list[TrackPlan]:
    return plan_corpus(SyntheticConfig())


def test_default_corpus_is_unbalanced(plans: list[TrackPlan]) -> None:
    sizes = Counter(plan.genre for plan in plans if plan.damage is None)
    assert len(sizes) >= 8
    assert max(sizes.values()) >= 10 * min(sizes.values())
    assert min(sizes.values()) >= 6
    assert dict(sizes) == SyntheticConfig().genre_tracks
    assert sum(sizes.values()) == 264


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("largest", "smallest"), [(80, 8), (3, 3), (20, 4), (7, 5)])
def test_every_genre_is_in_every_split_and_no_artist_in_two(seed: int, largest: int, smallest: int) -> None:
    config = SyntheticConfig(seed=seed, largest_genre_tracks=largest, smallest_genre_tracks=smallest)
    splits_of_genre: dict[str, set[str]] = defaultdict(set)
    splits_of_artist: dict[str, set[str]] = defaultdict(set)
    genres_of_artist: dict[str, set[str]] = defaultdict(set)
    for plan in plan_corpus(config):
        if plan.damage is None:
            splits_of_genre[plan.genre].add(plan.split)
        splits_of_artist[plan.artist_id].add(plan.split)
        genres_of_artist[plan.artist_id].add(plan.genre)
    assert splits_of_genre == dict.fromkeys(GENRES, SPLITS)
    assert all(len(splits) == 1 for splits in splits_of_artist.values())
    assert all(len(genres) == 1 for genres in genres_of_artist.values())
    assert Counter(next(iter(genres)) for genres in genres_of_artist.values()).most_common()[-1][1] >= 3


@pytest.mark.parametrize("seed", range(10))
def test_training_gets_most_tracks(seed: int) -> None:
    shares = Counter(plan.split for plan in plan_corpus(SyntheticConfig(seed=seed)))
    total = shares.total()
    assert 0.6 <= shares["train"] / total <= 0.75
    assert 0.12 <= shares["test"] / total <= 0.25
    assert 0.08 <= shares["validation"] / total <= 0.2


def test_plan_is_deterministic_and_follows_the_seed(plans: list[TrackPlan]) -> None:
    assert plan_corpus(SyntheticConfig()) == plans
    other = plan_corpus(SyntheticConfig(seed=1))
    assert {plan.seed for plan in other}.isdisjoint(plan.seed for plan in plans)
    assert {plan.artist_seed for plan in other}.isdisjoint(plan.artist_seed for plan in plans)


def test_paths_and_seeds_are_unique(plans: list[TrackPlan]) -> None:
    assert len({plan.path for plan in plans}) == len(plans)
    assert len({plan.seed for plan in plans}) == len(plans)
    assert [plan.path for plan in plans] == sorted(plan.path for plan in plans)
    assert all(plan.path.split("/")[:2] == [plan.genre, plan.artist_id] for plan in plans)


def test_albums_belong_to_one_artist_and_have_one_encoding(plans: list[TrackPlan]) -> None:
    facts = defaultdict(set)
    for plan in plans:
        facts[plan.album_id].add(
            (plan.artist_id, plan.sample_rate_hz, plan.channel_mode, plan.bit_rate_kbps, plan.vbr_quality)
        )
    assert all(len(values) == 1 for values in facts.values())


def test_encodings_are_mixed_within_every_large_genre(plans: list[TrackPlan]) -> None:
    for genre in GENRES[:4]:
        own = [plan for plan in plans if plan.genre == genre]
        assert len({plan.sample_rate_hz for plan in own}) >= 3
        assert {plan.channels for plan in own} == {1, 2}
        assert {plan.vbr_quality is None for plan in own} == {True, False}
    assert {plan.sample_rate_hz for plan in plans} == {22050, 24000, 32000, 44100, 48000}
    assert all((plan.bit_rate_kbps is None) != (plan.vbr_quality is None) for plan in plans)


def test_damaged_tracks_come_on_top() -> None:
    plans = plan_corpus(SyntheticConfig(damaged_tracks=7))
    damages = Counter(plan.damage for plan in plans)
    assert damages.pop(None) == sum(SyntheticConfig().genre_tracks.values())
    assert set(damages) == set(DAMAGES)
    assert damages.total() == 7


def test_metadata_lists_every_track(plans: list[TrackPlan]) -> None:
    table = metadata_table(plans)
    assert table.column_names == ["track_id", "genre_top", "artist_id", "album_id", "split"]
    assert table["track_id"].to_pylist() == [plan.path for plan in plans]
    assert table["genre_top"].to_pylist() == [plan.genre for plan in plans]
    assert table["split"].to_pylist() == [plan.split for plan in plans]
    assert table.schema.metadata[b"notice"].decode() == SYNTHETIC_NOTICE
    assert "ynthetic" in SYNTHETIC_NOTICE


def test_plan_travels_as_json(plans: list[TrackPlan]) -> None:
    for plan in (plans[0], *(plan for plan in plans if plan.damage)):
        assert TypeAdapter(TrackPlan).validate_python(json.loads(json.dumps(dataclasses.asdict(plan)))) == plan


@pytest.mark.parametrize(
    "wrong",
    [
        {"largest_genre_tracks": 2},
        {"smallest_genre_tracks": 90},
        {"shortest_seconds": 16.0},
        {"genres": ("house", "polka")},
        {"genres": ("house", "house")},
        {"genres": ()},
        {"damaged_tracks": -1},
        {"tracks": 10},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SyntheticConfig(**wrong)  # type: ignore[arg-type]
