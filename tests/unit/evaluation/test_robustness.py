from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from mgc.evaluation.robustness import SHARES, ZERO, zero_of, zero_pixels
from mgc.features.front_end import AnyFrontEndConfig


def clips(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """Clips without a zero."""
    return np.random.default_rng(4).integers(1, 200, shape).astype(dtype)


@pytest.mark.parametrize("share", [0.0, *SHARES, 1.0])
@pytest.mark.parametrize(
    ("shape", "dtype"), [((32, 20), "uint8"), ((148, 7), "float16"), ((128,), "float32"), ((26,), "float32")]
)
def test_exactly_the_share_is_zero_and_the_rest_as_it_was(share: float, shape: tuple[int, ...], dtype: str) -> None:
    clean_NX = clips(3, *shape, dtype=dtype)
    before_NX = clean_NX.copy()
    noisy_NX = zero_pixels(clean_NX, share)
    np.testing.assert_array_equal(clean_NX, before_NX)
    assert (noisy_NX.dtype, noisy_NX.shape) == (clean_NX.dtype, clean_NX.shape)
    for noisy_X, clean_X in zip(noisy_NX, clean_NX, strict=True):
        assert (noisy_X == 0).sum() == round(share * clean_X.size)
        np.testing.assert_array_equal(noisy_X[noisy_X != 0], clean_X[noisy_X != 0])


def test_the_colours_of_a_pixel_go_together() -> None:
    noisy_NHWR = zero_pixels(clips(2, 12, 10, 3), 0.25)
    black_NHW = (noisy_NHWR == 0).all(axis=-1)
    np.testing.assert_array_equal(black_NHW, (noisy_NHWR == 0).any(axis=-1))
    assert black_NHW.sum(axis=(1, 2)).tolist() == [30, 30]


def test_pixels_are_spread_over_the_clip_and_differ_from_clip_to_clip() -> None:
    zero_NFT = zero_pixels(clips(40, 16, 16), 0.5) == 0
    assert zero_NFT.mean(axis=0).min() > 0.2
    assert zero_NFT.mean(axis=0).max() < 0.8
    assert len(np.unique(zero_NFT, axis=0)) == 40


def test_a_clip_loses_the_same_pixels_whatever_its_company() -> None:
    clean_NFT = clips(6, 9, 9)
    together_NFT = zero_pixels(clean_NFT, 0.5)
    for n in range(6):
        np.testing.assert_array_equal(zero_pixels(clean_NFT[n : n + 1], 0.5)[0], together_NFT[n])
    np.testing.assert_array_equal(zero_pixels(clean_NFT[::-1], 0.5), together_NFT[::-1])
    assert (zero_pixels(clean_NFT, 0.5, seed=1) != together_NFT).any()


def test_more_noise_adds_to_less() -> None:
    clean_NFT = clips(2, 9, 9)
    less, half, more = (zero_pixels(clean_NFT, share) == 0 for share in SHARES)
    assert (half >= less).all()
    assert (more >= half).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        zero_pixels(clips(1, 4, 4), share)


def test_no_clip_is_no_clip() -> None:
    assert zero_pixels(np.zeros((0, 4, 4), np.uint8), 0.5).shape == (0, 4, 4)


def test_what_zero_means_is_said_of_every_front_end() -> None:
    kinds = {config.kind for config in get_args(AnyFrontEndConfig)}
    assert kinds <= ZERO.keys()
    assert {zero_of(kind) for kind in kinds} <= set(ZERO.values())
    assert zero_of("some other")
