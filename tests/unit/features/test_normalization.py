from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from mgc.errors import FeaturesError
from mgc.features.normalization import Normalization


def test_measure_is_mean_and_deviation_per_bin() -> None:
    features_NFT = (np.random.default_rng(0).beta(2, 5, (7, 5, 11)) * 255).astype(np.uint8)
    features_NFT[:, 3] = 200
    measured = Normalization.measure(features_NFT)
    np.testing.assert_allclose(measured.mean_F, features_NFT.mean(axis=(0, 2)), atol=5.1e-5)
    wanted_F = features_NFT.std(axis=(0, 2))
    # A bin that never changes is left as it is.
    wanted_F[3] = 1.0
    np.testing.assert_allclose(measured.deviation_F, wanted_F, atol=5.1e-5)
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
    np.testing.assert_allclose(measured.mean_F, whole_NFT.mean(axis=(0, 2)), rtol=1e-7)
    wanted_F = whole_NFT.std(axis=(0, 2))
    wanted_F[2] = 1.0
    np.testing.assert_allclose(measured.deviation_F, wanted_F, rtol=1e-7)
    assert Normalization.measure(np.random.default_rng(1).permutation(features_NFT)) == measured


def test_vectors_of_any_scale() -> None:
    """Variances of hertz beside flatness: 1e12 and 1e-5 in one vector."""
    scale_F = np.array([1e12, 1.0, 1e-5], np.float32)
    features_NF = (np.random.default_rng(0).normal(5, 1, (300, 3)) * scale_F).astype(np.float32)
    measured = Normalization.measure(features_NF)
    np.testing.assert_allclose(measured.mean_F, features_NF.mean(axis=0, dtype=np.float64), rtol=1e-7)
    applied_NF = measured.apply(torch.from_numpy(features_NF))
    assert applied_NF.dtype == torch.float32
    torch.testing.assert_close(applied_NF.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(applied_NF.std(dim=0, correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_images_colour_by_colour() -> None:
    features_NHWC = np.random.default_rng(0).integers(0, 256, (9, 4, 6, 3), dtype=np.uint8)
    features_NHWC[..., 1] //= 4
    measured = Normalization.measure(features_NHWC)
    np.testing.assert_allclose(measured.mean_F, features_NHWC.mean(axis=(0, 1, 2)), atol=5.1e-5)
    applied_NHWC = measured.apply(torch.from_numpy(features_NHWC))
    torch.testing.assert_close(applied_NHWC.mean(dim=(0, 1, 2)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(applied_NHWC.std(dim=(0, 1, 2), correction=0), torch.ones(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_an_error(value: float) -> None:
    features_NF = np.ones((200, 3), np.float32)
    features_NF[150, 1] = value
    with pytest.raises(FeaturesError, match="not a finite number"):
        Normalization.measure(features_NF)


def test_json_and_back() -> None:
    normalization = Normalization((1.5, 2.0), (3.25, 4.0))
    assert Normalization.from_json(json.loads(json.dumps(normalization.to_json()))) == normalization


@pytest.mark.parametrize(
    ("mean_F", "deviation_F"),
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
def test_numbers_that_are_none_are_refused(mean_F: tuple[float, ...], deviation_F: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="a normalization"):
        Normalization(mean_F, deviation_F)


@pytest.mark.parametrize(
    "value", [[], {}, {"mean": [1.0]}, {"mean": 1.0, "deviation": 1.0}, {"mean": ["1"], "deviation": [1.0]}]
)
def test_json_that_is_no_normalization_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a normalization is"):
        Normalization.from_json(value)


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(FeaturesError, match="no clip"):
        Normalization.measure(np.zeros((0, 4, 4), np.uint8))
