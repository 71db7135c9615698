"""The network on statistics of the cepstrum, against the same statistics by NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dct
from scipy.stats import skew
from torch.nn.functional import adaptive_avg_pool1d

from mgc.errors import ConfigError
from mgc.models.architecture import build_model
from mgc.models.statistics import Statistics, StatisticsConfig


def test_statistics_are_those_of_scipy() -> None:
    features_BFT = np.random.default_rng(0).normal(size=(3, 32, 40)).astype(np.float32)
    model = Statistics(StatisticsConfig(coefficients=10, covariances=4, bands=4, modulations=5), 32, 7)
    found_BS = model.statistics(torch.from_numpy(features_BFT)).numpy()
    cepstrum_BCT = dct(features_BFT, axis=1, norm="ortho")[:, :10]
    pairs = np.triu_indices(4, 1)
    bands_BKT = features_BFT.reshape(3, 4, 8, 40).mean(2)
    spectrum_BKM = (
        np.abs(np.fft.rfft(bands_BKT - bands_BKT.mean(2, keepdims=True)))[:, :, 1:].reshape(3, 4, 5, 4).mean(3)
    )
    wanted = [
        cepstrum_BCT.mean(2),
        cepstrum_BCT.std(2),
        skew(cepstrum_BCT, axis=2) * cepstrum_BCT.std(2) ** 3 / (cepstrum_BCT.std(2) ** 3 + 1e-3),
        np.abs(np.diff(cepstrum_BCT)).mean(2),
        np.stack([np.cov(each[:4], bias=True)[pairs] for each in cepstrum_BCT]),
        np.log(spectrum_BKM / 40 + 1e-3).reshape(3, -1),
    ]
    np.testing.assert_allclose(found_BS, np.concatenate(wanted, axis=1), rtol=1e-4, atol=1e-5)


def test_a_clip_turned_in_time_is_nearly_the_same() -> None:
    """But for the change where its end meets its beginning."""
    model = Statistics(StatisticsConfig(), 32, 7)
    features_BFT = torch.randn(2, 32, 200, generator=torch.Generator().manual_seed(0))
    turned = model.statistics(features_BFT.roll(70, dims=2))
    torch.testing.assert_close(turned, model.statistics(features_BFT), rtol=0.02, atol=0.02)


def test_under_autocast_the_statistics_are_exact() -> None:
    model = Statistics(StatisticsConfig(), 32, 7)
    features_BFT = torch.randn(2, 32, 50)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.statistics(features_BFT)
    assert torch.equal(found, model.statistics(features_BFT))


def test_fewer_bins_than_coefficients() -> None:
    assert Statistics(StatisticsConfig(coefficients=24, covariances=12), 8, 7)(torch.randn(3, 8, 9)).shape == (3, 7)
    with pytest.raises(ConfigError, match="needs at least 1 bins and 2 frames"):
        build_model(StatisticsConfig(), (8, 1), 7)


@pytest.mark.parametrize(("bins", "frames"), [(32, 40), (33, 41), (13, 9)])
def test_bands_that_do_not_divide_the_bins(bins: int, frames: int) -> None:
    features_BFT = torch.randn(2, bins, frames, generator=torch.Generator().manual_seed(0))
    bands, modulations = 5, 7
    model = Statistics(StatisticsConfig(coefficients=1, covariances=0, bands=bands, modulations=modulations), bins, 7)
    bands_BKT = adaptive_avg_pool1d(features_BFT.mT, bands).mT
    spectrum_BKM = torch.fft.rfft(bands_BKT - bands_BKT.mean(2, keepdim=True), dim=2).abs()[:, :, 1:]
    wanted_BKM = (adaptive_avg_pool1d(spectrum_BKM, modulations) / frames + 1e-3).log()
    found_BS = model.statistics(features_BFT)[:, -bands * modulations :]
    torch.testing.assert_close(found_BS, wanted_BKM.flatten(1), rtol=1e-4, atol=1e-5)
