"""Heads on embeddings: honest answers, calibrated confidence, and one result for the same input."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mgc.errors import TrainingError
from mgc.evaluation.calibration import calibration
from mgc.labeling.decide import track_probabilities
from mgc.training import probe
from mgc.training.probe import STRENGTHS, TEMPERATURES, CrossFit, cross_fit, divide, learning_curve, train_head

D = 24


def tracks(
    counts: tuple[int, ...], apart: float = 2.0, artists: int = 40, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return embeddings around a centre for each genre, of artists who each have a sound of their own."""
    random = np.random.default_rng(seed)
    genre_N = np.repeat(np.arange(len(counts)), counts)
    artist_N = random.integers(0, artists, len(genre_N)) + artists * genre_N
    centre_GD = apart * random.normal(size=(len(counts), D)) / np.sqrt(D)
    own_AD = 0.5 * random.normal(size=(artists * len(counts), D))
    embedding_ND = 3 + centre_GD[genre_N] + own_AD[artist_N] + random.normal(size=(len(genre_N), D))
    return (7 * embedding_ND).astype(np.float32), genre_N, artist_N


def probabilities(head: torch.nn.Module, embedding_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    logits_NG = head(torch.from_numpy(embedding_ND)).numpy()
    return np.stack([track_probabilities(logits_G[None]) for logits_G in logits_NG])


@pytest.mark.parametrize("hidden", [0, 16])
def test_answers_of_other_artists_say_what_new_ones_will(hidden: int) -> None:
    embedding_ND, genre_N, artist_N = tracks((400, 300, 200), 4.0)
    known, new = artist_N % 40 < 20, artist_N % 40 >= 20
    found = cross_fit(embedding_ND[known], genre_N[known], artist_N[known], 3, hidden)
    head = train_head(embedding_ND[known], genre_N[known], 3, found, hidden)
    new_NG = probabilities(head, embedding_ND[new])
    expected = (found.logits_NG.argmax(axis=1) == genre_N[known]).mean()
    right = (new_NG.argmax(axis=1) == genre_N[new]).mean()
    assert 0.6 < expected < 0.99
    assert right == pytest.approx(expected, abs=0.06)
    assert calibration(genre_N[new], new_NG).expected_error < 0.08


def test_noise_gets_no_confidence() -> None:
    embedding_ND, genre_N, artist_N = tracks((60, 60, 60), 0.0)
    found = cross_fit(embedding_ND, genre_N, artist_N, 3)
    shares_NG = np.stack([track_probabilities(logits_G[None]) for logits_G in found.logits_NG])
    assert calibration(genre_N, shares_NG).expected_error < 0.12
    assert shares_NG.max(axis=1).mean() < 0.6


def test_a_rare_genre_is_found() -> None:
    embedding_ND, genre_N, artist_N = tracks((500, 500, 25), 6.0)
    found = cross_fit(embedding_ND, genre_N, artist_N, 3)
    assert (found.logits_NG.argmax(axis=1)[genre_N == 2] == 2).mean() > 0.6


def test_no_artist_is_on_both_sides() -> None:
    _, genre_N, artist_N = tracks((50, 40, 30), artists=7)
    fold_N = divide(genre_N, artist_N, 0)
    for artist in np.unique(artist_N):
        assert len(np.unique(fold_N[artist_N == artist])) == 1
    assert len(np.unique(fold_N)) == 5


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few steps for a good head with a hidden layer, where it need not be good."""
    monkeypatch.setattr(probe, "_STEPS", 10)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("counts", [(3, 2), (2, 1), (5, 1, 4), (1, 2, 2, 1)])
@pytest.mark.parametrize("hidden", [0, 4])
def test_very_few_tracks(counts: tuple[int, ...], hidden: int) -> None:
    embedding_ND, genre_N, _ = tracks(counts, 8.0)
    found = cross_fit(embedding_ND, genre_N, np.arange(len(genre_N)), len(counts), hidden)
    assert np.isfinite(found.logits_NG).all()
    assert probabilities(train_head(embedding_ND, genre_N, len(counts), found, hidden), embedding_ND).shape == (
        len(genre_N),
        len(counts),
    )


@pytest.mark.parametrize(
    ("genre", "artist", "fault"),
    [
        ([0, 0, 1, 1], [0, 0, 0, 0], "by one artist"),
        ([0, 1, 2], [0, 1, 2], "no genre has two tracks"),
        ([0, 0, 0, 0], [0, 1, 2, 3], "only one genre"),
    ],
)
def test_what_cannot_be_scored(genre: list[int], artist: list[int], fault: str) -> None:
    embedding_ND = np.random.default_rng(0).normal(size=(len(genre), D)).astype(np.float32)
    with pytest.raises(TrainingError, match=fault):
        cross_fit(embedding_ND, np.array(genre), np.array(artist), max(genre) + 1)


def test_a_genre_of_one_artist_cannot_be_found_without_him() -> None:
    embedding_ND, genre_N, _ = tracks((20, 20), 8.0)
    found = cross_fit(embedding_ND, genre_N, genre_N, 2)
    assert (found.logits_NG.argmax(axis=1) != genre_N).all()


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("hidden", [0, 8])
def test_the_same_tracks_make_the_same_head(hidden: int) -> None:
    embedding_ND, genre_N, artist_N = tracks((8, 8))
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    heads = []
    for _ in range(2):
        found = cross_fit(embedding_ND, genre_N, artist_N, 2, hidden)
        heads.append(train_head(embedding_ND, genre_N, 2, found, hidden))
    assert torch.equal(torch.random.get_rng_state(), state)
    for one, other in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_number_that_is_constant_does_no_harm() -> None:
    embedding_ND, genre_N, artist_N = tracks((30, 30))
    embedding_ND[:, 3] = 5.0
    found = cross_fit(embedding_ND, genre_N, artist_N, 2)
    assert found.strength in STRENGTHS
    head = train_head(embedding_ND, genre_N, 2, found)
    assert all(bool(weights.isfinite().all()) for weights in head.parameters())


def test_the_temperature_is_part_of_the_head() -> None:
    embedding_ND, genre_N, artist_N = tracks((60, 60))
    found = cross_fit(embedding_ND, genre_N, artist_N, 2)
    warm = CrossFit(found.logits_NG, found.fold_N, found.answerable_N, found.strength, 2 * found.temperature)
    one = train_head(embedding_ND, genre_N, 2, found)(torch.from_numpy(embedding_ND))
    other = train_head(embedding_ND, genre_N, 2, warm)(torch.from_numpy(embedding_ND))
    torch.testing.assert_close(one, 2 * other, rtol=1e-4, atol=1e-4)


def test_more_labels_answer_better() -> None:
    embedding_ND, genre_N, artist_N = tracks((200, 150, 100), 4.0)
    found = cross_fit(embedding_ND, genre_N, artist_N, 3)
    points = learning_curve(embedding_ND, genre_N, found, 3)
    right = [(point.logits_NG.argmax(axis=1) == genre_N).mean() for point in points]
    assert right[0] < right[-1]
    assert points[-1].labels_G.tolist() == pytest.approx([160.0, 120.0, 80.0], rel=0.1)
    assert points[0].labels_G.tolist() == pytest.approx([40.0, 30.0, 20.0], rel=0.15)


@pytest.mark.parametrize("extra", [1, 5])
def test_a_genre_of_one_artist_does_not_take_the_others_confidence(extra: int) -> None:
    embedding_ND, genre_N, artist_N = tracks((20, 20, 20, extra), 12.0)
    artist_N[genre_N == 3] = 1000
    found = cross_fit(embedding_ND, genre_N, artist_N, 4)
    assert found.answerable_N.tolist() == (genre_N != 3).tolist()
    others = genre_N != 3
    shares_NG = np.stack([track_probabilities(logits_G[None]) for logits_G in found.logits_NG[others]])
    right = (shares_NG.argmax(axis=1) == genre_N[others]).mean()
    assert shares_NG.max(axis=1).mean() == pytest.approx(right, abs=0.12)


@pytest.mark.parametrize("tracks", [4, 10, 40])
def test_confidence_is_no_more_than_the_labels_can_tell(tracks: int) -> None:
    """All are told apart easily. Still, a few right answers are no proof that none will be wrong."""
    genre_N = np.arange(tracks) % 2
    drawn_ND = np.random.default_rng(0).normal(0.0, 0.1, (tracks, 8)) + 3.0 * (2 * genre_N - 1)[:, None]
    embedding_ND = drawn_ND.astype(np.float32)
    found = cross_fit(embedding_ND, genre_N, np.arange(tracks), 2)
    answers_N2 = train_head(embedding_ND, genre_N, 2, found)(torch.from_numpy(embedding_ND)).double()
    confidence_N = torch.softmax(answers_N2, 1).max(dim=1).values
    assert (answers_N2.argmax(dim=1).numpy() == genre_N).all()
    assert confidence_N.min() > 0.8
    assert confidence_N.max() < 1 - 0.4 / (tracks + 2)
    assert TEMPERATURES[0] < found.temperature < TEMPERATURES[-1]


ODD: Final = {
    "no artist is like another": ([0, 1] * 5, list(range(10))),
    "one genre dominates": ([0] * 27 + [1, 1, 2], list(range(30))),
    "three tracks": ([0, 0, 1], [0, 1, 2]),
    "two artists": ([0, 1] * 5, [0] * 5 + [1] * 5),
}


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e8])
@pytest.mark.parametrize(("genre", "artist"), ODD.values(), ids=ODD)
def test_confidence_is_a_probability_whatever_the_labels(genre: list[int], artist: list[int], scale: float) -> None:
    genre_N, count = np.array(genre), max(genre) + 1
    drawn_ND = np.random.default_rng(1).normal(size=(len(genre), 6)) + 4.0 * genre_N[:, None]
    embedding_ND = (scale * drawn_ND).astype(np.float32)
    found = cross_fit(embedding_ND, genre_N, np.array(artist), count)
    head = train_head(embedding_ND, genre_N, count, found)
    for logits_NG in (
        torch.from_numpy(found.logits_NG[found.answerable_N]),
        head(torch.from_numpy(embedding_ND)).double(),
    ):
        confidence_N = torch.softmax(logits_NG, 1).max(dim=1).values
        assert confidence_N.isfinite().all()
        assert 1 / count - 1e-6 <= confidence_N.min() <= confidence_N.max() < 0.9999


def test_what_only_one_genre_taught_is_not_certain() -> None:
    """Each artist has a genre of his own, so a head that has not heard him knows one genre only."""
    genre_N = np.array([0, 1] * 5)
    drawn_ND = np.random.default_rng(1).normal(size=(10, 6)).astype(np.float32)
    found = cross_fit(drawn_ND, genre_N, genre_N, 2)
    assert not found.answerable_N.any()
    assert torch.softmax(torch.from_numpy(found.logits_NG), 1).max().item() == pytest.approx(6 / 7)
