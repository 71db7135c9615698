"""A thumbnail as published networks see it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchaudio.compliance.kaldi import get_mel_banks

from mgc.audio.waveform import Waveform
from mgc.features.compressed_mel import CompressedMelConfig
from mgc.features.front_end import build_front_end
from mgc.features.kaldi_mel import KaldiMelConfig
from mgc.features.mel_power import mel_filters
from mgc.features.thumbnail import ThumbnailConfig
from mgc.models.mobilenet import MobileNet, MobileNetConfig
from mgc.models.musicnn import Musicnn, MusicnnConfig
from mgc.models.thumbnail_input import MelAxis, ThumbnailInput, kaldi_centres_hz, remap_rows, slaney_centres_hz

BANDS, ROWS = 128, 104
KALDI = MelAxis(kaldi_centres_hz(15_000.0, BANDS), middle=0.15, deviation=0.6)
SLANEY = MelAxis(slaney_centres_hz(8_000.0, 96), middle=2.2, deviation=1.26)


def tone(hz: float, rate_hz: int) -> Waveform:
    time_T = np.arange(10 * rate_hz) / rate_hz
    return Waveform((0.3 * np.sin(2 * np.pi * hz * time_T)).astype(np.float32), rate_hz)


@pytest.mark.parametrize("hz", [200.0, 440.0, 999.0, 1001.0, 2500.0, 5000.0, 9900.0])
def test_a_tone_is_in_the_band_where_kaldi_has_it(hz: float) -> None:
    """Both front ends hear the same tone. Their filters are up to two bands wide."""
    kaldi_BF = build_front_end(KaldiMelConfig())(tone(hz, 32_000)).features[0][:, 500]
    thumbnail_1FT = torch.from_numpy(build_front_end(ThumbnailConfig())(tone(hz, 44_100)).features).float()
    seen_1MX = ThumbnailInput(KALDI, ROWS, 384, 512).eval()(thumbnail_1FT)
    assert seen_1MX.shape == (1, BANDS, 512)
    assert abs(int(seen_1MX[0, :, 256].argmax()) - int(kaldi_BF.argmax())) <= 2


@pytest.mark.parametrize("hz", [200.0, 440.0, 999.0, 1001.0, 2500.0, 5000.0, 7900.0])
def test_a_tone_is_in_the_band_where_musicnn_has_it(hz: float) -> None:
    musicnn_M = build_front_end(CompressedMelConfig())(tone(hz, 16_000)).features[0][:, 90]
    thumbnail_1FT = torch.from_numpy(build_front_end(ThumbnailConfig())(tone(hz, 44_100)).features).float()
    seen_1MX = ThumbnailInput(SLANEY, ROWS, 96, 128).eval()(thumbnail_1FT)
    assert seen_1MX.shape == (1, 96, 128)
    assert abs(int(seen_1MX[0, :, 64].argmax()) - int(musicnn_M.argmax())) <= 2


def test_centres_are_those_of_both_filterbanks() -> None:
    fine = 16_384  # Filters of so long a frame peak where their centres are, to 3 Hz.
    kaldi_MF, _ = get_mel_banks(BANDS, fine, 32_000.0, 0.0, 15_000.0, 100.0, -500.0, 1.0)
    wanted_M = kaldi_MF.numpy().argmax(axis=1) * 32_000 / fine
    rows_F = mel_filters(44_100, fine, 128, 0.0, 22_050.0).argmax(axis=0)[:ROWS] * 44_100 / fine
    found_M = np.array(remap_rows(KALDI, ROWS)) @ rows_F
    inside_M = (wanted_M > rows_F[0]) & (wanted_M < rows_F[-1])
    assert inside_M.sum() == 111
    np.testing.assert_allclose(found_M[inside_M], wanted_M[inside_M], atol=3)
    assert (found_M[wanted_M > rows_F[-1]] == rows_F[-1]).all()
    slaney_M = mel_filters(16_000, fine, 96, 0.0, 8_000.0).argmax(axis=0) * 16_000 / fine
    np.testing.assert_allclose(np.array(remap_rows(SLANEY, ROWS)) @ rows_F, slaney_M.clip(rows_F[0]), atol=3)


@pytest.mark.parametrize("rows", [8, ROWS, 128])
def test_a_band_is_a_mean_of_neighbouring_rows(rows: int) -> None:
    weights_MF = np.array(remap_rows(KALDI, rows))
    assert weights_MF.shape == (BANDS, rows)
    assert weights_MF.min() >= 0
    np.testing.assert_allclose(weights_MF.sum(axis=1), 1)
    middles_M = weights_MF @ np.arange(rows)
    assert (np.diff(middles_M) >= 0).all()
    # A thumbnail with all its rows goes beyond Kaldi's 15 kHz.
    assert (middles_M[-1] == rows - 1) == (rows < 128)


@pytest.mark.parametrize("columns", [1, 80, 128, 600])
def test_columns_are_stretched_to_the_frames_of_training_or_scoring(columns: int) -> None:
    layer = ThumbnailInput(KALDI, ROWS, 384, 512)
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


def test_weights_of_musicnn_fit() -> None:
    small = {"timbres": 4, "rhythms": 3, "middle": 5, "hidden": 9}
    published = Musicnn(MusicnnConfig(**small), 96, 5)
    model = Musicnn(MusicnnConfig(**small, input="thumbnail", frames=32, scored_frames=48), ROWS, 3)
    assert model.state_dict().keys() == published.state_dict().keys()
    model.start_from(published.state_dict())
    assert torch.equal(model.timbres[1].convolution.weight, published.timbres[1].convolution.weight)
    assert model(torch.randn(2, ROWS, 40)).shape == (2, 3)


def test_filters_find_the_same_in_training_and_scoring() -> None:
    """In training a high filter runs over rows."""
    model = Musicnn(MusicnnConfig(timbres=4, rhythms=3, middle=5, hidden=9), 96, 5).eval()
    maps_B1FT = torch.randn(2, 1, 96, 40)
    for filters in [*model.timbres, *model.rhythms]:
        scored_BCT = filters(maps_B1FT)
        # The normalisation below it goes on scoring.
        filters.training = True
        torch.testing.assert_close(filters(maps_B1FT), scored_BCT)
