from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mgc.errors import ConfigError, FeaturesError
from mgc.training.sampling import Balance, Resample, repeat_rates, wanted_shares

COUNTS = {"rock": 90, "folk": 9, "jazz": 1}


@pytest.mark.parametrize(
    ("balance", "shares"),
    [
        ("natural", {"rock": 0.9, "folk": 0.09, "jazz": 0.01}),
        ("class_balanced", {"rock": 1 / 3, "folk": 1 / 3, "jazz": 1 / 3}),
        # Square roots 9.4868, 3, 1: their sum is 13.4868.
        ("square_root", {"rock": 0.703413, "folk": 0.222439, "jazz": 0.074146}),
    ],
)
def test_shares_by_hand(balance: Balance, shares: dict[str, float]) -> None:
    assert wanted_shares(COUNTS, balance) == pytest.approx(shares, abs=1e-5)


@pytest.mark.parametrize("balance", ["natural", "class_balanced", "square_root"])
def test_an_epoch_keeps_its_length(balance: Balance) -> None:
    rates = repeat_rates(COUNTS, balance)
    assert sum(rates[genre] * count for genre, count in COUNTS.items()) == pytest.approx(100)
    if balance == "natural":
        assert rates == pytest.approx(dict.fromkeys(COUNTS, 1.0))


@pytest.mark.parametrize("counts", [{}, {"rock": 3, "folk": 0}])
def test_a_genre_without_rows_is_an_error(counts: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="no rows of the genre"):
        repeat_rates(counts, "class_balanced")


def rows(counts: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    genre = np.array([name for name, count in counts.items() for _ in range(count)], dtype=object)
    return {
        "genre_top": genre,
        "features": np.arange(len(genre) * 2, dtype=np.uint8).reshape(-1, 2),
        "row": np.arange(len(genre)),
        Resample.column: np.random.default_rng(seed).random(len(genre)),
    }


def test_repeats_by_hand() -> None:
    stage = Resample({"a": 2.25, "b": 0.5, "c": 1.0})
    batch = {
        "genre_top": np.array(["a", "a", "b", "b", "c", "c"], dtype=object),
        "row": np.arange(6),
        "resample_u": np.array([0.24, 0.25, 0.49, 0.5, 0.0, 0.999]),
    }
    made = stage(batch)
    assert made.keys() == {"genre_top", "row"}
    assert made["row"].tolist() == [0, 0, 0, 1, 1, 2, 4, 5]
    assert made["genre_top"].tolist() == list("aaaaabcc")


def test_rows_stay_whole_and_in_order() -> None:
    batch = rows(COUNTS, 0)
    made = Resample(repeat_rates(COUNTS, "class_balanced"))(batch)
    assert (np.diff(made["row"]) >= 0).all()
    np.testing.assert_array_equal(made["features"], batch["features"][made["row"]])
    np.testing.assert_array_equal(made["genre_top"], batch["genre_top"][made["row"]])


@pytest.mark.parametrize("balance", ["class_balanced", "square_root"])
def test_repeats_are_exact_in_expectation(balance: Balance) -> None:
    """Over many epochs, what a genre gets beyond its whole repeats is binomial with the rest of its rate."""
    rates, epochs = repeat_rates(COUNTS, balance), 400
    stage = Resample(rates)
    seen = dict.fromkeys(COUNTS, 0)
    for epoch in range(epochs):
        made = stage(rows(COUNTS, epoch))
        repeats = np.bincount(made["row"], minlength=100)
        genre = rows(COUNTS, epoch)["genre_top"]
        for name in COUNTS:
            assert set(repeats[genre == name]) <= {int(rates[name]), int(rates[name]) + 1}
            seen[name] += int(repeats[genre == name].sum())
    chi_square = 0.0
    for name, count in COUNTS.items():
        trials, rest = epochs * count, rates[name] % 1
        extra = seen[name] - trials * int(rates[name])
        chi_square += (extra - trials * rest) ** 2 / (trials * rest * (1 - rest))
    assert chi_square < stats.chi2.ppf(0.999, df=len(COUNTS))
    total = sum(seen.values())
    wanted = wanted_shares(COUNTS, balance)
    assert {name: number / total for name, number in seen.items()} == pytest.approx(wanted, abs=0.01)


def test_a_batch_may_come_out_empty() -> None:
    made = Resample({"a": 0.5})({"genre_top": np.array(["a"], object), "resample_u": np.array([0.7])})
    assert made["genre_top"].shape == (0,)
    nothing = {"genre_top": np.array([], object), "features": np.zeros((0, 2), np.uint8), "resample_u": np.zeros(0)}
    assert Resample({"a": 0.5})(nothing)["features"].shape == (0, 2)


def test_a_genre_that_was_not_counted_is_named() -> None:
    batch = {"genre_top": np.array(["a", "b", None], object), "resample_u": np.zeros(3)}
    with pytest.raises(FeaturesError, match=r"the genre\(s\) None, b were not there"):
        Resample({"a": 1.0})(batch)
