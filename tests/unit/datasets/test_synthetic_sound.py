"""Genres and artists can be told apart by ear, neither trivially nor at chance: a linear model on band statistics."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mgc.datasets.synthetic import SyntheticConfig, TrackPlan, plan_corpus, render

CONFIG = SyntheticConfig(
    largest_genre_tracks=12, smallest_genre_tracks=12, shortest_seconds=5.0, longest_seconds=5.0, damaged_tracks=0
)
EDGES_HZ = np.geomspace(60.0, 8000.0, 33)


def band_statistics(plan: TrackPlan) -> np.ndarray:
    """Mean, spread and mean change of 32 band levels in decibels, loudness removed, (96,)."""
    wave_T = render(plan)[0]
    window = np.hanning(1024).astype(np.float32)
    frames_NT = np.lib.stride_tricks.sliding_window_view(wave_T, 1024)[::512] * window
    power_NF = np.abs(np.fft.rfft(frames_NT)) ** 2
    bins = np.searchsorted(np.fft.rfftfreq(1024, 1.0 / plan.sample_rate_hz), EDGES_HZ)
    bands = [power_NF[:, low : max(high, low + 1)].mean(axis=1) for low, high in pairwise(bins)]
    level_BN = 10.0 * np.log10(np.stack(bands) + 1e-6)
    level_BN -= level_BN.mean()
    return np.concatenate([level_BN.mean(axis=1), level_BN.std(axis=1), np.abs(np.diff(level_BN)).mean(axis=1)])


@pytest.fixture(scope="module")
def tracks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Statistics, genres and artists. One rate and mono throughout, so that only the music differs."""
    plans = [replace(plan, sample_rate_hz=22050, channel_mode="mono") for plan in plan_corpus(CONFIG)]
    statistics = np.stack([band_statistics(plan) for plan in plans])
    return statistics, np.array([plan.genre for plan in plans]), np.array([plan.artist_id for plan in plans])


def test_genres_can_be_learnt_and_artists_leak(tracks: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    statistics, genres, artists = tracks
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))
    unknown = cross_val_predict(model, statistics, genres, groups=artists, cv=GroupKFold(4))
    known = cross_val_predict(model, statistics, genres, cv=StratifiedKFold(4, shuffle=True, random_state=0))
    accuracy_unknown, accuracy_known = (unknown == genres).mean(), (known == genres).mean()
    assert accuracy_unknown > 0.3, "chance is 0.125"
    assert accuracy_known < 0.97, "too easy"
    assert accuracy_known > accuracy_unknown + 0.1, "a model that has heard the artist must do better"


def test_artists_have_a_sound_of_their_own(tracks: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    statistics, genres, artists = tracks
    scaled = StandardScaler().fit_transform(statistics)
    distance = ((scaled[:, None] - scaled[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distance, np.inf)
    distance[genres[:, None] != genres[None]] = np.inf
    recognised = (artists[distance.argmin(axis=1)] == artists).mean()
    chance = np.mean([((artists == artist).sum() - 1) / 11 for artist in artists])
    assert recognised > chance + 0.2
