"""A thumbnail as a network for Kaldi's mel bands sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchaudio.compliance.kaldi import get_mel_banks

from mgc.audio.waveform import Waveform
from mgc.features.front_end import build_front_end
from mgc.features.kaldi_mel import KaldiMelConfig
from mgc.features.mel_power import mel_filters
from mgc.features.thumbnail import ThumbnailConfig
from mgc.models.mobilenet import MobileNet, MobileNetConfig
from mgc.models.thumbnail_input import ThumbnailInput, remap_rows

BANDS, ROWS = 128, 104


def tone(hz: float, rate_hz: int) -> Waveform:
    time_T = np.arange(10 * rate_hz) / rate_hz
    return Waveform((0.3 * np.sin(2 * np.pi * hz * time_T)).astype(np.float32), rate_hz)


@pytest.mark.parametrize("hz", [200.0, 440.0, 999.0, 1001.0, 2500.0, 5000.0, 9900.0])
def test_a_tone_is_in_the_band_where_kaldi_has_it(hz: float) -> None:
    """Both front ends hear the same tone. Their filters are up to two bands wide."""
    kaldi_BF = build_front_end(KaldiMelConfig())(tone(hz, 32_000)).features[0][:, 500]
    thumbnail_1FT = torch.from_numpy(build_front_end(ThumbnailConfig())(tone(hz, 44_100)).features).float()
    seen_1MX = ThumbnailInput(ROWS, 384, 512).eval()(thumbnail_1FT)
    assert seen_1MX.shape == (1, BANDS, 512)
    assert abs(int(seen_1MX[0, :, 256].argmax()) - int(kaldi_BF.argmax())) <= 2


def test_centres_are_those_of_both_filterbanks() -> None:
    fine = 16_384  # Filters of so long a frame peak where their centres are, to 3 Hz.
    kaldi_MF, _ = get_mel_banks(BANDS, fine, 32_000.0, 0.0, 15_000.0, 100.0, -500.0, 1.0)
    wanted_M = kaldi_MF.numpy().argmax(axis=1) * 32_000 / fine
    rows_F = mel_filters(44_100, fine, 128, 0.0, 22_050.0).argmax(axis=0)[:ROWS] * 44_100 / fine
    found_M = np.array(remap_rows(ROWS)) @ rows_F
    inside_M = (wanted_M > rows_F[0]) & (wanted_M < rows_F[-1])
    assert inside_M.sum() == 111
    np.testing.assert_allclose(found_M[inside_M], wanted_M[inside_M], atol=3)
    assert (found_M[wanted_M > rows_F[-1]] == rows_F[-1]).all()


@pytest.mark.parametrize("rows", [8, ROWS, 128])
def test_a_band_is_a_mean_of_neighbouring_rows(rows: int) -> None:
    weights_MF = np.array(remap_rows(rows))
    assert weights_MF.shape == (BANDS, rows)
    assert weights_MF.min() >= 0
    np.testing.assert_allclose(weights_MF.sum(axis=1), 1)
    middles_M = weights_MF @ np.arange(rows)
    assert (np.diff(middles_M) >= 0).all()
    # A thumbnail with all its rows goes beyond Kaldi's 15 kHz.
    assert (middles_M[-1] == rows - 1) == (rows < 128)


@pytest.mark.parametrize("columns", [1, 80, 128, 600])
def test_columns_are_stretched_to_the_frames_of_training_or_scoring(columns: int) -> None:
    layer = ThumbnailInput(ROWS, 384, 512)
    features_BFT = torch.zeros(2, ROWS, columns)
    features_BFT[:, :, columns // 2] = 1.0
    assert layer.train()(features_BFT).shape == (2, BANDS, 384)
    seen_BMX = layer.eval()(features_BFT)
    assert seen_BMX.shape == (2, BANDS, 512)
    where = int(seen_BMX[0, 60].argmax())
    assert where / 512 == pytest.approx((columns // 2 + 0.5) / columns, abs=1.5 / columns)


def test_weights_of_the_network_for_mel_fit() -> None:
    published = MobileNet(MobileNetConfig(width=0.1, hidden=9), 5)
    config = MobileNetConfig(width=0.1, hidden=9, input="thumbnail", frames=32, scored_frames=48)
    model = MobileNet(config, 3, ROWS)
    assert model.state_dict().keys() == published.state_dict().keys()
    model.start_from(published.state_dict())
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(model.layers.parameters(), published.layers.parameters(), strict=True)
    )
    assert model(torch.randn(2, ROWS, 40)).shape == (2, 3)
