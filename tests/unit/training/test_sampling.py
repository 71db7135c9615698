from __future__ import annotations

import math
from collections import Counter
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from mgc.errors import FeaturesError, TrainingError
from mgc.training.sampling import REPEAT_THRESHOLD, Balance, Resample, Sampling, repeat_rates

COUNTS = {"rock": 90, "folk": 9, "jazz": 1}
"""100 rows: a class with a single one, and 90 to 1."""


def shares(counts: dict[str, int], rates: dict[str, float]) -> dict[str, float]:
    """What training sees of each class."""
    rows = {name: rate * counts[name] for name, rate in rates.items()}
    return {name: number / sum(rows.values()) for name, number in rows.items()}


@pytest.mark.parametrize(
    ("balance", "wanted"),
    [
        ("natural", {"rock": 0.9, "folk": 0.09, "jazz": 0.01}),
        ("class_balanced", {"rock": 1 / 3, "folk": 1 / 3, "jazz": 1 / 3}),
        # Square roots 9.4868, 3, 1: their sum is 13.4868.
        ("square_root", {"rock": 0.703413, "folk": 0.222439, "jazz": 0.074146}),
        # Repeated 1, √(0.1 / 0.09) and √(0.1 / 0.01) times: 90, 9.4868 and 3.1623 rows of 102.6491.
        ("repeat_factor", {"rock": 0.876773, "folk": 0.092420, "jazz": 0.030807}),
    ],
)
def test_shares_by_hand(balance: Balance, wanted: dict[str, float]) -> None:
    assert shares(COUNTS, repeat_rates(COUNTS, balance, 0.1)) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("done", [0.0, 0.25, 0.5, 1.0])
def test_progressive_is_the_mixture_of_kang_et_al(done: float) -> None:
    """p_j(t) = (1 - t/T) p_IB + (t/T) p_CB, their equation 3, with the shares counted out."""
    total, classes = sum(COUNTS.values()), len(COUNTS)
    wanted = {name: (1 - done) * count / total + done / classes for name, count in COUNTS.items()}
    assert shares(COUNTS, repeat_rates(COUNTS, "progressive", done=done)) == pytest.approx(wanted)


@pytest.mark.parametrize("threshold", [0.001, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("counts", [COUNTS, {"a": 100, "b": 1}, {"a": 5, "b": 5}, {"a": 1}])
def test_repeat_factors_are_those_of_lvis(threshold: float, counts: dict[str, int]) -> None:
    """r(c) = max(1, √(t / f(c))), Gupta et al. 2019, by way of logarithms."""
    rates = repeat_rates(counts, "repeat_factor", threshold)
    for name, count in counts.items():
        frequency = count / sum(counts.values())
        exponent = max(0.0, (math.log(threshold) - math.log(frequency)) / 2)
        assert rates[name] == pytest.approx(math.exp(exponent))


def test_a_hundred_to_one_with_a_single_row() -> None:
    counts = {"many": 100, "one": 1}
    assert repeat_rates(counts, "class_balanced") == pytest.approx({"many": 0.505, "one": 50.5})
    assert repeat_rates(counts, "repeat_factor", 0.5) == pytest.approx({"many": 1.0, "one": math.sqrt(50.5)})
    assert repeat_rates({"only": 1}, "square_root") == {"only": 1.0}


@pytest.mark.parametrize("balance", ["natural", "class_balanced", "square_root", "progressive"])
def test_an_epoch_keeps_its_length(balance: Balance) -> None:
    rates = repeat_rates(COUNTS, balance, done=0.4)
    assert sum(rates[genre] * count for genre, count in COUNTS.items()) == pytest.approx(100)
    if balance == "natural":
        assert rates == pytest.approx(dict.fromkeys(COUNTS, 1.0))
    assert [Sampling(COUNTS, balance, 10).rows(epoch) for epoch in (0, 5, 9)] == [100, 100, 100]


def test_repeating_makes_an_epoch_longer() -> None:
    sampling = Sampling(COUNTS, "repeat_factor", 10, threshold=0.25)
    # 90 + 9 √(0.25 / 0.09) + √(0.25 / 0.01) = 90 + 15 + 5, and the classifier is re-trained on 100.
    assert [sampling.rows(epoch) for epoch in (0, 9, 10)] == [110, 110, 100]


def test_rates_follow_the_epoch_and_end_in_the_retrained_classifier() -> None:
    sampling = Sampling(COUNTS, "progressive", 4)
    for epoch in range(4):
        assert sampling.rates(epoch) == repeat_rates(COUNTS, "progressive", done=epoch / 4)
    balances: tuple[Balance, ...] = get_args(Balance)
    for balance in balances:
        assert Sampling(COUNTS, balance, 4).rates(4) == repeat_rates(COUNTS, "class_balanced")
        assert Sampling(COUNTS, balance, 4).rates(0) == repeat_rates(COUNTS, balance, REPEAT_THRESHOLD)


@pytest.mark.parametrize("balance", get_args(Balance))
@pytest.mark.parametrize("counts", [{}, {"rock": 3, "folk": 0}])
def test_a_genre_without_rows_is_an_error(counts: dict[str, int], balance: Balance) -> None:
    with pytest.raises(TrainingError, match="no rows of the genre"):
        repeat_rates(counts, balance)


def rows(counts: dict[str, int]) -> dict[str, np.ndarray]:
    """Two clips of each track."""
    genre = np.array([name for name, count in counts.items() for _ in range(count)], dtype=object)
    return {
        "track_id": np.array([f"track {row // 2}" for row in range(len(genre))], dtype=object),
        "clip_index": np.arange(len(genre)) % 2,
        "genre_top": genre,
        "features": np.arange(len(genre) * 2, dtype=np.uint8).reshape(-1, 2),
        "row": np.arange(len(genre)),
    }


def resample(balance: Balance, seed: int, epoch: int, epochs: int = 10) -> Resample:
    return Resample(Sampling(COUNTS, balance, epochs), seed, lambda: epoch)


def test_rows_stay_whole_and_in_order() -> None:
    batch = rows(COUNTS)
    made = resample("class_balanced", 0, 0)(batch)
    assert made.keys() == batch.keys()
    assert (np.diff(made["row"]) >= 0).all()
    for name, values in batch.items():
        np.testing.assert_array_equal(made[name], values[made["row"]])


def test_the_same_rows_come_however_they_are_dealt_out() -> None:
    """In one batch, in many, in another order, in another process: seed, epoch and row alone decide."""
    batch = rows(COUNTS)
    whole = resample("class_balanced", 7, 3)(batch)["row"]
    order = np.random.default_rng(0).permutation(100)
    stage = resample("class_balanced", 7, 3)
    parts = [stage({name: values[order[at : at + 9]] for name, values in batch.items()}) for at in range(0, 100, 9)]
    assert sorted(np.concatenate([part["row"] for part in parts])) == sorted(whole)
    for seed, epoch in ((7, 4), (8, 3)):
        assert sorted(resample("class_balanced", seed, epoch)(batch)["row"]) != sorted(whole)
    # Pinned: a change here changes every training.
    assert Counter(batch["genre_top"][whole]) == PINNED


PINNED = {"rock": 36, "folk": 29, "jazz": 33}


@pytest.mark.parametrize("balance", ["class_balanced", "square_root", "repeat_factor", "progressive"])
def test_repeats_are_exact_in_expectation(balance: Balance) -> None:
    """Over many epochs, what a genre gets beyond its whole repeats is binomial with the rest of its rate."""
    batch, epochs = rows(COUNTS), 400
    sampling = Sampling(COUNTS, balance, epochs)
    seen: Counter[str] = Counter()
    mean, variance = dict.fromkeys(COUNTS, 0.0), dict.fromkeys(COUNTS, 0.0)
    for epoch in range(epochs):
        made = Resample(sampling, 0, lambda epoch=epoch: epoch)(batch)
        repeats = np.bincount(made["row"], minlength=100)
        for name, rate in sampling.rates(epoch).items():
            mine = repeats[batch["genre_top"] == name]
            assert set(mine) <= {int(rate), int(rate) + 1}
            seen[name] += int(mine.sum())
            mean[name] += rate * COUNTS[name]
            variance[name] += rate % 1 * (1 - rate % 1) * COUNTS[name]
    free = [name for name in COUNTS if variance[name] > 1e-9]
    assert all(seen[name] == round(mean[name]) for name in COUNTS if name not in free)
    chi_square = sum((seen[name] - mean[name]) ** 2 / variance[name] for name in free)
    assert chi_square < stats.chi2.ppf(0.999, df=len(free))


def test_a_batch_may_come_out_empty() -> None:
    empty = {name: values[:0] for name, values in rows(COUNTS).items()}
    assert resample("class_balanced", 0, 0)(empty)["features"].shape == (0, 2)
    rare = {"rock": 10_000, "jazz": 1}
    stage = Resample(Sampling(rare, "class_balanced", 1), 0, lambda: 0)
    one = {name: values[:1] for name, values in rows({"rock": 1}).items()}
    # Of the 10,000 about half are left out.
    kept = [len(stage({**one, "clip_index": np.array([clip])})["row"]) for clip in range(200)]
    assert set(kept) == {0, 1}
    assert 70 < sum(kept) < 130


def test_a_genre_that_was_not_counted_is_named() -> None:
    batch = rows({"rock": 1, "x": 2})
    batch["genre_top"] = np.array(["rock", "b", None], object)
    with pytest.raises(FeaturesError, match=r"the genre\(s\) None, b were not there"):
        resample("class_balanced", 0, 0)(batch)
