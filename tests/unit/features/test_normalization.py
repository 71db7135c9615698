from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from mgc.errors import FeaturesError
from mgc.features.normalization import Normalization, ScalingConfig, extremes


def test_measure_is_mean_and_deviation_per_bin() -> None:
    features_NFT = (np.random.default_rng(0).beta(2, 5, (7, 5, 11)) * 255).astype(np.uint8)
    features_NFT[:, 3] = 200
    measured = Normalization.measure(features_NFT)
    np.testing.assert_allclose(measured.offset_F, features_NFT.mean(axis=(0, 2)), atol=5.1e-5)
    wanted_F = features_NFT.std(axis=(0, 2))
    # A bin that never changes is left as it is.
    wanted_F[3] = 1.0
    np.testing.assert_allclose(measured.scale_F, wanted_F, atol=5.1e-5)
    shuffled_NFT = np.random.default_rng(1).permutation(features_NFT)
    assert Normalization.measure(shuffled_NFT) == measured


def test_apply_by_hand() -> None:
    normalization = Normalization((10.0, 20.0), (2.0, 5.0))
    features_BFT = torch.tensor([[[10, 14, 0], [20, 30, 255]]], dtype=torch.uint8)
    applied_BFT = normalization.apply(features_BFT)
    assert applied_BFT.dtype == torch.float32
    torch.testing.assert_close(applied_BFT, torch.tensor([[[0.0, 2.0, -5.0], [0.0, 2.0, 47.0]]]))


def test_measured_clips_become_standard() -> None:
    features_NFT = np.random.default_rng(0).integers(0, 256, (50, 4, 60), dtype=np.uint8)
    applied_NFT = Normalization.measure(features_NFT).apply(torch.from_numpy(features_NFT))
    torch.testing.assert_close(applied_NFT.mean(dim=(0, 2)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(applied_NFT.std(dim=(0, 2), correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_floats_in_parts_are_as_at_once() -> None:
    features_NFT = np.random.default_rng(0).normal(-1000, 3, (150, 5, 7)).astype(np.float16)
    features_NFT[:, 2] = -1131
    measured = Normalization.measure(features_NFT)
    whole_NFT = features_NFT.astype(np.float64)
    np.testing.assert_allclose(measured.offset_F, whole_NFT.mean(axis=(0, 2)), rtol=1e-7)
    wanted_F = whole_NFT.std(axis=(0, 2))
    wanted_F[2] = 1.0
    np.testing.assert_allclose(measured.scale_F, wanted_F, rtol=1e-7)
    assert Normalization.measure(np.random.default_rng(1).permutation(features_NFT)) == measured


def test_vectors_of_any_scale() -> None:
    """Variances of hertz beside flatness: 1e12 and 1e-5 in one vector."""
    scale_F = np.array([1e12, 1.0, 1e-5], np.float32)
    features_NF = (np.random.default_rng(0).normal(5, 1, (300, 3)) * scale_F).astype(np.float32)
    measured = Normalization.measure(features_NF)
    np.testing.assert_allclose(measured.offset_F, features_NF.mean(axis=0, dtype=np.float64), rtol=1e-7)
    applied_NF = measured.apply(torch.from_numpy(features_NF))
    assert applied_NF.dtype == torch.float32
    torch.testing.assert_close(applied_NF.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(applied_NF.std(dim=0, correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_images_colour_by_colour() -> None:
    features_NHWC = np.random.default_rng(0).integers(0, 256, (9, 4, 6, 3), dtype=np.uint8)
    features_NHWC[..., 1] //= 4
    measured = Normalization.measure(features_NHWC)
    np.testing.assert_allclose(measured.offset_F, features_NHWC.mean(axis=(0, 1, 2)), atol=5.1e-5)
    applied_NHWC = measured.apply(torch.from_numpy(features_NHWC))
    torch.testing.assert_close(applied_NHWC.mean(dim=(0, 1, 2)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(applied_NHWC.std(dim=(0, 1, 2), correction=0), torch.ones(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_an_error(value: float) -> None:
    features_NF = np.ones((200, 3), np.float32)
    features_NF[150, 1] = value
    with pytest.raises(FeaturesError, match="not a finite number"):
        Normalization.measure(features_NF)


@pytest.mark.parametrize("unit_length", [False, True])
def test_json_and_back(unit_length: bool) -> None:
    normalization = Normalization((1.5, 2.0), (3.25, 4.0), unit_length)
    assert Normalization.from_json(json.loads(json.dumps(normalization.to_json()))) == normalization


@pytest.mark.parametrize(
    ("offset_F", "scale_F"),
    [
        ((), ()),
        ((1.0,), (1.0, 2.0)),
        ((1.0,), (0.0,)),
        ((1.0,), (-1.0,)),
        ((float("nan"),), (1.0,)),
        ((1.0,), (float("nan"),)),
        ((1.0,), (float("inf"),)),
    ],
)
def test_numbers_that_are_none_are_refused(offset_F: tuple[float, ...], scale_F: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="a normalisation"):
        Normalization(offset_F, scale_F)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"offset": [1.0]},
        {"offset": [1.0], "scale": [1.0]},
        {"offset": 1.0, "scale": 1.0, "unit_length": False},
        {"offset": ["1"], "scale": [1.0], "unit_length": False},
        {"offset": [1.0], "scale": [1.0], "unit_length": 1},
        {"offset": [1.0], "scale": [1.0], "unit_length": False, "mean": [1.0]},
    ],
)
def test_json_that_is_no_normalization_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a normalisation is"):
        Normalization.from_json(value)


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(FeaturesError, match="no clip"):
        Normalization.measure(np.zeros((0, 4, 4), np.uint8))


MIN_MAX, BYTES = ScalingConfig(method="min_max"), ScalingConfig(method="bytes")


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("shape", [(5,), (5, 7), (4, 6, 5)])
def test_minimum_to_maximum_is_zero_to_one_per_bin(dtype: str, shape: tuple[int, ...]) -> None:
    features = np.random.default_rng(0).integers(3, 200, (90, *shape)).astype(dtype)
    measured = Normalization.measure(features, MIN_MAX)
    axes = (0, 1, 2) if len(shape) == 3 else (0, 2) if len(shape) == 2 else (0,)
    np.testing.assert_array_equal(measured.offset_F, features.min(axis=axes))
    np.testing.assert_array_equal(measured.scale_F, np.ptp(features.astype(float), axis=axes))
    applied = measured.apply(torch.from_numpy(features)).numpy()
    np.testing.assert_array_equal(applied.min(axis=axes), np.zeros(5))
    np.testing.assert_allclose(applied.max(axis=axes), np.ones(5), rtol=1e-6)
    # What comes later may lie outside.
    assert float(measured.apply(torch.full((1, *shape), 250.0)).max()) > 1


def test_extremes_of_parts_are_those_of_all() -> None:
    features_NFT = np.random.default_rng(0).normal(size=(50, 4, 9)).astype(np.float32)
    parts = [extremes(features_NFT[start : start + 12]) for start in range(0, 50, 12)]
    assert Normalization.measure(np.concatenate(parts), MIN_MAX) == Normalization.measure(features_NFT, MIN_MAX)


def test_a_bin_that_never_changes_is_not_divided_by_zero() -> None:
    for dtype in (np.uint8, np.float32):
        features_NF = np.array([[7, 1], [7, 3]], dtype)
        measured = Normalization.measure(features_NF, MIN_MAX)
        assert (measured.offset_F, measured.scale_F) == ((7.0, 1.0), (1.0, 2.0))


def test_bytes_are_divided_by_255_whatever_they_are() -> None:
    features_NHWC = np.random.default_rng(0).integers(10, 90, (3, 4, 5, 3), dtype=np.uint8)
    measured = Normalization.measure(features_NHWC, BYTES)
    assert measured == Normalization((0.0,) * 3, (255.0,) * 3)
    np.testing.assert_allclose(measured.apply(torch.from_numpy(features_NHWC)), features_NHWC / 255, rtol=1e-6)
    with pytest.raises(FeaturesError, match=r"scaling\.method bytes is for uint8, these are float16"):
        Normalization.measure(features_NHWC.astype(np.float16), BYTES)


@pytest.mark.parametrize("shape", [(6,), (3, 2), (2, 1, 3)])
def test_unit_length_is_that_of_each_clip(shape: tuple[int, ...]) -> None:
    """As scikit-learn's `normalize` after its `MinMaxScaler` does it with vectors; zeros stay zeros."""
    features = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
    scaling = ScalingConfig(method="min_max", unit_length=True)
    plain = Normalization.measure(features, MIN_MAX).apply(torch.from_numpy(features)).reshape(8, -1).numpy()
    applied = Normalization.measure(features, scaling).apply(torch.from_numpy(features))
    assert applied.shape == features.shape
    found = applied.reshape(8, -1).numpy()
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(found * lengths, plain, rtol=1e-5, atol=1e-6)
    silent = Normalization((1.0,) * 6, (2.0,) * 6, unit_length=True).apply(torch.ones(2, 6))
    assert silent.tolist() == [[0.0] * 6] * 2


def test_the_vectors_of_paper_c_against_scikit_learn() -> None:
    from sklearn.preprocessing import MinMaxScaler, normalize

    features_NF = (np.random.default_rng(0).normal(5, 2, (40, 26)) * np.logspace(-3, 4, 26)).astype(np.float32)
    wanted_NF = normalize(MinMaxScaler().fit_transform(features_NF))
    scaling = ScalingConfig(method="min_max", unit_length=True)
    applied_NF = Normalization.measure(features_NF, scaling).apply(torch.from_numpy(features_NF))
    np.testing.assert_allclose(applied_NF, wanted_NF, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_has_no_range(value: float) -> None:
    features_NF = np.ones((20, 3), np.float32)
    features_NF[15, 1] = value
    with pytest.raises(FeaturesError, match="not a finite number"):
        Normalization.measure(extremes(features_NF), MIN_MAX)
