"""Mel power of frames, equal to librosa's.

C: clips, T: samples in time, F: frequency bins of the Fourier transform, M: mel bins, X: frames.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from mgc.features.cutting import Constants

SMALLEST_POWER: Final = 1e-10
"""librosa.power_to_db's amin: power below counts as this much, -100 dB."""


class MelPower:
    """Mel power of the frames of waves: Hann window, Fourier transform, re² + im², one product with the filters."""

    def __init__(
        self, sample_rate_hz: int, n_fft: int, hop_length: int, n_mels: int, f_min_hz: float, f_max_hz: float | None
    ) -> None:
        self._n_fft, self._hop_length = n_fft, hop_length
        top_hz = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
        filters_FM = torch.from_numpy(mel_filters(sample_rate_hz, n_fft, n_mels, f_min_hz, top_hz))
        self._constants = Constants(torch.hann_window(n_fft), filters_FM)

    def __call__(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Power of shape (clips, frames, mels), float32, of waves already padded: frame x begins at sample x · hop."""
        hann_T, filters_FM = self._constants.on(wave_CT.device)
        frames_CXT = wave_CT.unfold(-1, self._n_fft, self._hop_length) * hann_T
        spectrum_CXF = torch.fft.rfft(frames_CXT)
        real_CXF, imaginary_CXF = spectrum_CXF.real, spectrum_CXF.imag
        power_CXF = torch.addcmul(real_CXF * real_CXF, imaginary_CXF, imaginary_CXF)
        return power_CXF @ filters_FM


@functools.lru_cache(maxsize=32)
def mel_filters(sample_rate_hz: int, n_fft: int, n_mels: int, f_min_hz: float, f_max_hz: float) -> NDArray[np.float32]:
    """Triangular mel filters of equal area, as librosa.filters.mel's defaults. The result is shared: not to be written.

    Scale and normalisation are those of M. Slaney, Auditory Toolbox, 1998: linear to 1 kHz (66.67 Hz a mel), above that
    logarithmic (a factor of 6.4 in 27 mels), each filter divided by half its width in hertz.

    Returns:
        float32 of shape (n_fft // 2 + 1, n_mels).
    """
    mels = np.linspace(_hz_to_mel(f_min_hz), _hz_to_mel(f_max_hz), n_mels + 2)
    edges_hz = np.where(mels < 15, mels * (200 / 3), 1000 * np.exp((mels - 15) * (np.log(6.4) / 27)))
    bins_hz_F1 = np.linspace(0, sample_rate_hz / 2, n_fft // 2 + 1)[:, None]
    left_hz, centre_hz, right_hz = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising_FM = (bins_hz_F1 - left_hz) / (centre_hz - left_hz)
    falling_FM = (right_hz - bins_hz_F1) / (right_hz - centre_hz)
    filters_FM = np.maximum(0, np.minimum(rising_FM, falling_FM)) * (2 / (right_hz - left_hz))
    return filters_FM.astype(np.float32)


def _hz_to_mel(frequency_hz: float) -> float:
    if frequency_hz < 1000:
        return frequency_hz * (3 / 200)
    return float(15 + 27 * np.log(frequency_hz / 1000) / np.log(6.4))
