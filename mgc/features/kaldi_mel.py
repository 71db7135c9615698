"""Log-mel filterbanks as Kaldi defines them, after pre-emphasis.

C: clips, T: samples in time, F: frequency bins of the Fourier transform, M: mel bins, X: frames.
"""

from __future__ import annotations

import math
from typing import ClassVar, Final, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch.nn.functional import pad

from mgc.configuration import STRICT
from mgc.features.clips import Dtype
from mgc.features.cutting import ClipConfig, ClipFrontEnd, Cutter
from mgc.features.mel_power import MelPower

_SMALLEST_POWER: Final = 1e-5
"""Added to the power before the logarithm."""

_OFFSET: Final = 4.5
_SCALE: Final = 5.0
"""Of the natural logarithm, so that music lies around 0."""

_BREAK_HZ: Final = 700.0
_MELS_PER_NEPER: Final = 1127.0
"""Kaldi's mel scale: 1127 ln(1 + f / 700)."""


@dataclass(frozen=True, config=STRICT)
class KaldiMelConfig(ClipConfig):
    """Logarithms of Kaldi's mel filterbank, float32, shape (n_mels, clip length / hop).

    The window is resampled and cut as `ClipConfig` says, but a last clip that would be padded begins earlier. Then,
    with the defaults as F. Schmid, K. Koutini and G. Widmer (ICASSP 2023) feed their networks: x[t] - 0.97 x[t - 1], a
    Fourier transform of centred frames (reflected at the ends of the clip, Hann window), power, triangular filters on
    Kaldi's mel scale, and (ln(power + 1e-5) + 4.5) / 5.

    Attributes:
        window_length: length of the Hann window in samples, in the middle of a frame.
        n_fft: length of a frame in samples.
        hop_length: samples from one frame to the next.
        n_mels: mel bins.
        f_min_hz: lower edge of the lowest filter.
        f_max_hz: upper edge of the highest filter.
        pre_emphasis: share of the sample before that is subtracted.
    """

    kind: Literal["kaldi_mel"] = "kaldi_mel"
    sample_rate_hz: int = Field(default=32000, ge=4000, le=192_000)
    clip_seconds: float = Field(default=10.0, ge=0.1, le=600.0)
    window_length: int = Field(default=800, ge=32, le=16384)
    n_fft: int = Field(default=1024, ge=64, le=16384, multiple_of=2)
    hop_length: int = Field(default=320, ge=16, le=16384)
    n_mels: int = Field(default=128, ge=8, le=512)
    f_min_hz: float = Field(default=0.0, ge=0.0)
    f_max_hz: float = Field(default=15_000.0, gt=0.0)
    pre_emphasis: float = Field(default=0.97, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _mels_fit(self) -> Self:
        if self.f_max_hz > self.sample_rate_hz / 2:
            raise ValueError(f"f_max_hz {self.f_max_hz:g} is above half the sample rate, {self.sample_rate_hz / 2:g}")
        if self.f_min_hz >= self.f_max_hz:
            raise ValueError(f"f_min_hz {self.f_min_hz:g} is not below f_max_hz, {self.f_max_hz:g}")
        if self.window_length > self.n_fft:
            raise ValueError(f"window_length {self.window_length} is longer than a frame, n_fft {self.n_fft}")
        if self.clip_samples - 1 <= self.n_fft // 2:
            raise ValueError(f"n_fft {self.n_fft}: a clip of {self.clip_seconds:g} s has {self.clip_samples} samples")
        return self

    @property
    def frames(self) -> int:
        """Number of frames of a clip."""
        return 1 + (self.clip_samples - 1) // self.hop_length


class KaldiMel(ClipFrontEnd):
    """Turns a window into Kaldi's log-mel clips. See `KaldiMelConfig`."""

    NUMBERS: ClassVar[int] = 1
    dtype: ClassVar[Dtype] = "float32"

    def __init__(self, config: KaldiMelConfig) -> None:
        super().__init__(Cutter.of_clips(config, overlap=True))
        self.config = config
        filters_FM = kaldi_filters(config.sample_rate_hz, config.n_fft, config.n_mels, config.f_min_hz, config.f_max_hz)
        beside = config.n_fft - config.window_length
        hann_T = torch.hann_window(config.window_length, periodic=False)
        window_T = pad(hann_T, (beside // 2, beside - beside // 2))
        self._mel_power = MelPower(window_T, config.hop_length, filters_FM)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (bins, frames)."""
        return self.config.n_mels, self.config.frames

    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return float32 of shape (clips, n_mels, frames); see `ClipFrontEnd.features`."""
        config = self.config
        emphasized_CT = wave_CT[:, 1:] - config.pre_emphasis * wave_CT[:, :-1]
        reflected_CT = pad(emphasized_CT, (config.n_fft // 2, config.n_fft // 2), mode="reflect")
        mel_CXM = self._mel_power(reflected_CT).add_(_SMALLEST_POWER).log_()
        return mel_CXM.add_(_OFFSET).div_(_SCALE).transpose(1, 2).contiguous()


def kaldi_filters(sample_rate_hz: int, n_fft: int, n_mels: int, f_min_hz: float, f_max_hz: float) -> torch.Tensor:
    """Return Kaldi's mel filters: float32 of shape (n_fft // 2 + 1, n_mels).

    Each is a triangle on the mel scale, with height 1 where its neighbours begin and end. Kaldi has no filter at half
    the sample rate, so the last row is 0.
    """
    low, high = (_MELS_PER_NEPER * math.log(1 + hz / _BREAK_HZ) for hz in (f_min_hz, f_max_hz))
    step = (high - low) / (n_mels + 1)
    number_M1 = torch.arange(n_mels).unsqueeze(1)
    left_M1, centre_M1, right_M1 = (low + (number_M1 + place) * step for place in (0.0, 1.0, 2.0))
    hz_F = sample_rate_hz / n_fft * torch.arange(n_fft // 2)
    mel_F = _MELS_PER_NEPER * (1 + hz_F / _BREAK_HZ).log()
    rising_MF = (mel_F - left_M1) / (centre_M1 - left_M1)
    falling_MF = (right_M1 - mel_F) / (right_M1 - centre_M1)
    return pad(torch.minimum(rising_MF, falling_MF).clamp(min=0), (0, 1)).T
