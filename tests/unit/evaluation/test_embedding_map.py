from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from pydantic import TypeAdapter

from mgc.configuration import to_json
from mgc.evaluation.embedding_map import FEWEST, SKETCH, EmbeddingMap, choose, embedding_map, sketch

GENRES = {"rock": 700, "folk": 250, "blues": 45, "polka": 5}
GENRE_OF = {f"{genre}-{n:03d}": genre for genre, tracks in GENRES.items() for n in range(tracks)}


def test_a_choice_has_each_genre_by_its_share() -> None:
    chosen = choose(GENRE_OF, 100)
    assert len(chosen) == len(set(chosen)) == 100
    assert chosen == sorted(chosen)
    found = Counter(GENRE_OF[track] for track in chosen)
    for genre, tracks in GENRES.items():
        assert found[genre] == pytest.approx(tracks / 10, abs=1.5)


def test_a_choice_leaves_no_genre_out() -> None:
    assert {GENRE_OF[track] for track in choose(GENRE_OF, 4)} == set(GENRES)


def test_a_choice_is_by_chance_and_does_not_depend_on_the_order() -> None:
    chosen = choose(GENRE_OF, 50)
    assert choose(dict(reversed(GENRE_OF.items())), 50) == chosen
    assert choose(GENRE_OF, 50, seed=1) != chosen
    assert max(int(track[-3:]) for track in chosen if track.startswith("rock")) > 350


def test_all_are_chosen_where_there_are_no_more() -> None:
    assert choose(GENRE_OF, 1000) == sorted(GENRE_OF)
    assert choose({}, 10) == []


def test_a_sketch_keeps_distances() -> None:
    random = np.random.default_rng(6)
    embedding_ND = random.normal(size=(30, 40_000)).astype(np.float32) * random.uniform(0.5, 2, (30, 1)).astype(
        np.float32
    )
    made_NS = sketch(embedding_ND)
    assert made_NS.shape == (30, SKETCH)
    assert made_NS.dtype == np.float32
    pairs = np.triu_indices(30, 1)
    wanted, found = (np.linalg.norm(x[pairs[0]] - x[pairs[1]], axis=1) for x in (embedding_ND, made_NS))
    assert np.abs(found / wanted - 1).max() < 0.2
    assert np.abs(found / wanted - 1).mean() < 0.04


def test_a_sketch_does_not_depend_on_the_company_and_short_ones_stay() -> None:
    embedding_ND = np.random.default_rng(7).normal(size=(5, SKETCH + 3)).astype(np.float32)
    np.testing.assert_array_equal(sketch(embedding_ND[2:3])[0], sketch(embedding_ND)[2])
    np.testing.assert_array_equal(sketch(embedding_ND[:, :SKETCH]), embedding_ND[:, :SKETCH])


def clouds(tracks: int = 25) -> tuple[list[str], np.ndarray, list[str]]:
    """Three genres far from each other in 80 dimensions."""
    random = np.random.default_rng(9)
    genres = [genre for genre in ("a", "b", "c") for _ in range(tracks)]
    centres = dict(zip("abc", random.normal(0, 6, (3, 80)), strict=True))
    embedding_ND = np.stack([centres[genre] + random.normal(size=80) for genre in genres])
    return [f"t{n:03d}" for n in range(len(genres))], embedding_ND.astype(np.float32), genres


def test_neighbours_on_the_map_are_of_one_genre() -> None:
    tracks, embedding_ND, genres = clouds()
    made = embedding_map(tracks, embedding_ND, genres, genres[::-1], 1234)
    assert made is not None
    assert [point.track_id for point in made.points] == tracks
    assert [point.genre for point in made.points] == genres
    assert [point.answer for point in made.points] == genres[::-1]
    assert (made.tracks, made.perplexity) == (1234, pytest.approx(74 / 3))
    xy_N2 = np.array([[point.x, point.y] for point in made.points])
    apart_NN = np.linalg.norm(xy_N2[:, None] - xy_N2, axis=2) + np.diag(np.full(len(tracks), np.inf))
    nearest = apart_NN.argmin(axis=1)
    assert np.mean([genres[n] == genres[nearest[n]] for n in range(len(tracks))]) > 0.95
    assert embedding_map(tracks, embedding_ND, genres, genres[::-1], 1234) == made
    assert TypeAdapter(EmbeddingMap).validate_python(json.loads(json.dumps(to_json(made)))) == made


def test_the_smallest_map() -> None:
    tracks, embedding_ND, genres = clouds(3)
    few = FEWEST
    made = embedding_map(tracks[:few], embedding_ND[:few], genres[:few], genres[:few], few)
    assert made is not None
    assert all(np.isfinite([point.x, point.y]).all() for point in made.points)
    assert embedding_map(tracks[: few - 1], embedding_ND[: few - 1], genres[: few - 1], genres[: few - 1], few) is None


def test_embeddings_of_one_number_and_of_a_dead_network() -> None:
    tracks, embedding_ND, genres = clouds(5)
    made = embedding_map(tracks, embedding_ND[:, :1], genres, genres, 15)
    assert made is not None
    assert len(made.points) == 15
    assert embedding_map(tracks, np.zeros((15, 8), np.float32), genres, genres, 15) is None
