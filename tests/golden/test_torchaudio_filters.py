"""Kaldi's mel filters and the cosine transform, against torchaudio."""

from __future__ import annotations

import pytest
import torch
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.functional import create_dct

from mgc.features.kaldi_mel import kaldi_filters
from mgc.models.blocks import cosine_transform


@pytest.mark.parametrize(
    ("rate_hz", "n_fft", "n_mels", "low_hz", "high_hz"),
    [(32_000, 1024, 128, 0.0, 15_000.0), (16_000, 512, 64, 20.0, 8_000.0), (44_100, 2048, 8, 300.0, 3_000.0)],
)
def test_filters_are_equal(rate_hz: int, n_fft: int, n_mels: int, low_hz: float, high_hz: float) -> None:
    # Vocal tract length is not warped, so the two frequencies for it do not matter.
    theirs_MF, _ = get_mel_banks(n_mels, n_fft, rate_hz, low_hz, high_hz, 100.0, -500.0, 1.0)
    ours_FM = kaldi_filters(rate_hz, n_fft, n_mels, low_hz, high_hz)
    assert ours_FM.shape == (n_fft // 2 + 1, n_mels)
    assert torch.equal(ours_FM[:-1], theirs_MF.T)
    assert not ours_FM[-1].any()


def test_the_cosine_transform() -> None:
    torch.testing.assert_close(cosine_transform(128, 20), create_dct(20, 128, "ortho"), atol=1e-6, rtol=0)
