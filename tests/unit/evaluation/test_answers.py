"""From logits of clips to scores of tracks, without Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mgc.evaluation.answers import answers, map_of, robustness_of, scores_of
from mgc.taxonomy import Taxonomy

GENRES = ["blues", "folk", "jazz"]
BUNDLE: Any = SimpleNamespace(
    taxonomy=Taxonomy.flat(GENRES), experiment=SimpleNamespace(front_end=SimpleNamespace(kind="log_mel"))
)


def lists(logits: list[list[float]]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.array(logits, np.float32).reshape(-1)), 3)


def clips(artists: list[str | None] | None = None, **more: pa.Array) -> pa.Table:
    """Two clips of b (which disagree), three of a, one of c, in the order in which workers finish."""
    return pa.table(
        {
            "track_id": ["b", "a", "a", "c", "b", "a"],
            "genre_top": ["folk", "blues", "blues", "jazz", "folk", "blues"],
            "artist_id": pa.array(artists or ["x", "y", "y", "x", "x", "y"], pa.string()),
            "logits": lists([[4, 0, 0], [3, 0, 0], [0, 1, 0], [0, 5, 0], [0, 5, 0], [0, 1, 0]]),
            **more,
        }
    )


def test_the_logits_of_a_tracks_clips_are_averaged() -> None:
    given = answers(clips(), BUNDLE.taxonomy)
    assert given.track_ids == ["a", "b", "c"]
    assert given.truth_N.tolist() == [0, 1, 2]
    mean_NG = np.array([[1, 2 / 3, 0], [2, 2.5, 0], [0, 5, 0]])
    wanted_NG = np.exp(mean_NG) / np.exp(mean_NG).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(given.probabilities_NG, wanted_NG, rtol=1e-6)
    scores = scores_of(given, BUNDLE.taxonomy)
    assert (scores.tracks, scores.unit, scores.accuracy) == (3, "tracks", pytest.approx(2 / 3))
    assert (scores.groups, scores.group_kind) == (2, "artists")


def test_clips_for_themselves() -> None:
    given = answers(clips(), BUNDLE.taxonomy, "clips")
    assert given.track_ids == ["a", "a", "a", "b", "b", "c"]
    scores = scores_of(given, BUNDLE.taxonomy)
    assert (scores.tracks, scores.unit, scores.accuracy) == (6, "clips", pytest.approx(2 / 6))
    assert (scores.groups, scores.group_kind) == (2, "artists")
    nobody = scores_of(answers(clips([""] * 6), BUNDLE.taxonomy, "clips"), BUNDLE.taxonomy)
    assert (nobody.groups, nobody.group_kind) == (3, "tracks"), "clips of one track stay together"


@pytest.mark.parametrize("unknown", ["", None])
def test_a_track_without_an_artist_is_a_group_of_its_own(unknown: str | None) -> None:
    some = answers(clips([unknown, "b", "b", unknown, unknown, "b"]), BUNDLE.taxonomy).groups
    assert (some.count, some.kind) == (3, "artists"), "the track b is not of the artist b"
    none = answers(clips([unknown] * 6), BUNDLE.taxonomy).groups
    assert (none.count, none.kind) == (3, "tracks")


def test_the_order_of_the_clips_does_not_matter() -> None:
    """But for clips of one track among each other, whose groups are the same."""
    table = clips()
    one, other = (
        scores_of(answers(each, BUNDLE.taxonomy), BUNDLE.taxonomy) for each in (table, table.take([5, 4, 3, 2, 1, 0]))
    )
    assert one == other
    split = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    assert scores_of(answers(split, BUNDLE.taxonomy), BUNDLE.taxonomy) == one


def test_robustness_scores_every_share() -> None:
    right, wrong = [[0.0, 9.0, 0.0]] * 6, [[0.0, 0.0, 9.0]] * 6
    made = robustness_of(
        clips(logits_zeroed_0=lists(right), **{
            "logits_zeroed_0.25": lists(right), "logits_zeroed_0.5": lists(wrong), "logits_zeroed_0.75": lists(right)
        }),
        BUNDLE.taxonomy,
        BUNDLE.experiment.front_end.kind,
    )  # fmt: skip
    assert [point.zeroed for point in made.points] == [0.0, 0.25, 0.5, 0.75]
    assert [point.accuracy for point in made.points] == pytest.approx([2 / 3, 1 / 3, 1 / 3, 1 / 3])
    assert made.points[0].accuracy_interval is not None
    assert (made.zero, made.chance) == ("the floor, as in silence", pytest.approx(1 / 3))


def test_a_track_lies_where_its_clips_are_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def layout(tracks: list[str], embedding_ND: np.ndarray, genres: list[str], told: list[str], total: int) -> None:
        seen.update(tracks=tracks, embeddings=embedding_ND.tolist(), genres=genres, told=told, total=total)

    monkeypatch.setattr("mgc.evaluation.answers.embedding_map", layout)
    numbers = [np.array([n, 10.0], np.float32).tobytes() if n != 3 else None for n in range(6)]
    map_of(clips(embedding=pa.array(numbers, pa.binary())), BUNDLE.taxonomy)
    assert seen == {
        "tracks": ["a", "b"],
        "embeddings": [[pytest.approx(8 / 3), 10.0], [2.0, 10.0]],
        "genres": ["blues", "folk"],
        "told": ["blues", "folk"],
        "total": 3,
    }
    assert map_of(clips(embedding=pa.array([None] * 6, pa.binary())), BUNDLE.taxonomy) is None
