from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import bootstrap

from mgc.evaluation.intervals import (
    REPLICATES,
    SEED,
    Interval,
    ResamplingGroups,
    interval,
    resample,
    share_of_right,
    wilson_interval,
)


def ends(found: Interval | None) -> tuple[float, float]:
    assert found is not None
    return found.low, found.high


def test_groups_are_numbered_as_they_appear() -> None:
    groups = ResamplingGroups.of(["b", "a", "b", "c", "a"], "artists")
    assert groups.index_N.tolist() == [0, 1, 0, 2, 1]
    assert groups.count == 3
    assert ResamplingGroups.singles(4, "tracks").count == 4
    assert ResamplingGroups.of([], "artists").count == 0


def test_groups_of_unequal_size_are_worth_fewer() -> None:
    assert ResamplingGroups(np.arange(60) % 6, "artists").effective_count == pytest.approx(6)
    assert ResamplingGroups.of("aaab", "artists").effective_count == pytest.approx(16 / 10)


def test_counts_of_replicates_are_those_of_the_units_drawn() -> None:
    """Every replicate written out unit by unit."""
    random = np.random.default_rng(3)
    groups = ResamplingGroups.of(random.integers(0, 6, 40).tolist(), "artists")
    unit_E, count_E = random.integers(0, 40, 90), random.integers(0, 5, 90)
    made = resample(groups, unit_E, count_E, 5, replicates=50, seed=11)
    again = np.random.default_rng(11)
    for counts_C in made.counts_RC:
        wanted_C = np.zeros(5)
        for group in again.integers(0, groups.count, groups.count):
            for unit in np.flatnonzero(groups.index_N == group):
                for event in np.flatnonzero(unit_E == unit):
                    wanted_C[count_E[event]] += 1
        assert counts_C.tolist() == wanted_C.tolist()
    assert made.counts_C.tolist() == np.bincount(count_E, minlength=5).tolist()
    for count in range(5):
        assert made.groups_C[count] == len(np.unique(groups.index_N[unit_E[count_E == count]]))


def test_without_groups_it_is_the_ordinary_bootstrap() -> None:
    right_N = np.random.default_rng(5).random(150) < 0.62
    wanted = bootstrap((right_N.astype(float),), np.mean, method="percentile", n_resamples=20_000, random_state=1)
    made = ends(share_of_right(right_N, ResamplingGroups.singles(150, "tracks")))
    assert made == pytest.approx(tuple(wanted.confidence_interval), abs=0.012)


def simulated(random: np.random.Generator, artists: int, tracks: int) -> npt.NDArray[np.bool_]:
    """Right answers of which each artist has a share of its own: Beta(2, 2), one half on average."""
    return (random.random((artists, tracks)) < random.beta(2, 2, (artists, 1))).reshape(-1)


def test_the_intervals_cover_what_they_say() -> None:
    """95 % by artists; by tracks far less, as though there were 2.8 times as many."""
    artists, tracks, trials = 60, 10, 150
    units = np.arange(artists * tracks)
    kinds = {
        "artists": ResamplingGroups(units // tracks, "artists"),
        "tracks": ResamplingGroups.singles(len(units), "tracks"),
    }
    random = np.random.default_rng(2026)
    covered = dict.fromkeys(kinds, 0)
    for _ in range(trials):
        right_N = simulated(random, artists, tracks)
        unit_E = np.concatenate([units, units[right_N]])
        count_E = np.repeat([0, 1], [len(units), right_N.sum()])
        for kind, groups in kinds.items():
            low, high = ends(
                resample(groups, unit_E, count_E, 2, replicates=250, seed=int(random.integers(2**31))).share(1, 0)
            )
            covered[kind] += low <= 0.5 <= high
    assert 0.91 <= covered["artists"] / trials <= 0.985
    assert covered["tracks"] / trials < 0.85


def test_one_group_has_no_interval() -> None:
    assert share_of_right(np.array([True, False, True]), ResamplingGroups.of("aaa", "artists")) is None
    assert share_of_right(np.array([True, True]), ResamplingGroups.of("aa", "artists")) is None


@pytest.mark.parametrize("right", [True, False])
def test_where_all_groups_agree_each_is_one_trial(right: bool) -> None:
    """Resampling has no spread there: ten artists say as much as ten coins, however many tracks they have."""
    found = share_of_right(np.full(70, right), ResamplingGroups(np.arange(70) % 10, "artists"))
    assert found == wilson_interval(10 * right, 10)


def test_replicates_without_the_whole_are_passed_over() -> None:
    """A count that only some groups have is not drawn at all in some replicates."""
    groups = ResamplingGroups.singles(6, "tracks")
    made = resample(groups, np.array([0, 1, 0]), np.array([0, 0, 1]), 2)
    assert (made.counts_RC[:, 0] == 0).any()
    assert ends(made.share(1, 0)) == (0.0, 1.0)
    f1_R = made.f1(1, 0, 0)
    assert np.isnan(f1_R).sum() == (made.counts_RC[:, 0] == 0).sum()


def test_an_interval_of_nothing_and_of_the_same() -> None:
    assert interval(np.full(5, np.nan)) is None
    assert interval(np.full(5, 0.25)) is None
    low, high = ends(interval(np.append(np.linspace(0, 1, 1001), np.nan)))
    assert (low, high) == pytest.approx((0.025, 0.975))


def test_the_same_seed_gives_the_same_interval() -> None:
    right_N = np.random.default_rng(1).random(80) < 0.5
    groups = ResamplingGroups(np.arange(80) // 4, "artists")
    assert share_of_right(right_N, groups) == share_of_right(right_N, groups)
    units = np.arange(80)
    arguments = groups, np.append(units, units[right_N]), np.repeat([0, 1], [80, right_N.sum()]), 2
    assert resample(*arguments, REPLICATES, SEED).share(1, 0) == share_of_right(right_N, groups)
    assert resample(*arguments, REPLICATES, SEED + 1).share(1, 0) != share_of_right(right_N, groups)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # R 4: prop.test(right, total, correct = FALSE)
    [(8, 10, 0.4901625, 0.9433178), (0, 10, 0.0, 0.2775328), (10, 10, 0.7224672, 1.0), (1, 1, 0.2065493, 1.0)],
)
def test_wilson_interval(right: int, total: int, low: float, high: float) -> None:
    assert ends(wilson_interval(right, total)) == pytest.approx((low, high), abs=1e-6)
