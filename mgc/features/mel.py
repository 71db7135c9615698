"""Log-mel spectrograms in clips, equal to librosa's.

C: clips, T: samples in time, F: frequency bins of the Fourier transform, M: mel bins, X: frames.
"""

from __future__ import annotations

import functools
from typing import Final, Literal, Self

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.audio.waveform import Waveform
from mgc.configuration import STRICT
from mgc.features.clips import Clips

SMALLEST_POWER: Final = 1e-10
"""librosa.power_to_db's amin: power below counts as this much."""


@dataclass(frozen=True, config=STRICT)
class LogMelConfig:
    """Log-mel spectrograms of consecutive short clips.

    A window is resampled and cut into clips of `clip_seconds`, one after the other. A last remainder of at least half
    a clip is kept and padded with silence, a shorter one is dropped; a window shorter than a clip is one padded clip.
    Each clip's mel power (the defaults of librosa.feature.melspectrogram: Hann window, frames centred, zeros beyond the
    clip's ends, Slaney filters) is cut to its middle `frames` frames and taken in decibels below their maximum, with a
    floor at -`top_db`. It is stored as uint8: 0 is -`top_db` dB, 255 is 0 dB. A silent clip is 0 throughout.

    Attributes:
        sample_rate_hz: rate to resample to (soxr, HQ).
        n_fft: length of a frame in samples.
        hop_length: samples from one frame to the next.
        n_mels: mel bins.
        f_min_hz: lower edge of the lowest mel filter.
        f_max_hz: upper edge of the highest; None is half the sample rate.
        top_db: range in decibels.
        clip_seconds: length of a clip.
        frames: frames kept of each clip, 1 + clip length / hop at most (130 of 3 s with the defaults).
    """

    kind: Literal["log_mel"] = "log_mel"
    sample_rate_hz: int = Field(default=22050, ge=4000, le=192_000)
    n_fft: int = Field(default=2048, ge=64, le=16384)
    hop_length: int = Field(default=512, ge=16, le=16384)
    n_mels: int = Field(default=128, ge=8, le=512)
    f_min_hz: float = Field(default=0.0, ge=0.0)
    f_max_hz: float | None = Field(default=None, gt=0.0)
    top_db: float = Field(default=80.0, gt=0.0, le=200.0)
    clip_seconds: float = Field(default=3.0, ge=0.1, le=600.0)
    frames: int = Field(default=128, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        top_hz = self.sample_rate_hz / 2 if self.f_max_hz is None else self.f_max_hz
        if top_hz > self.sample_rate_hz / 2:
            raise ValueError(f"f_max_hz {top_hz:g} is above half the sample rate, {self.sample_rate_hz / 2:g}")
        if self.f_min_hz >= top_hz:
            raise ValueError(f"f_min_hz {self.f_min_hz:g} is not below the highest frequency, {top_hz:g}")
        if self.n_fft % 2:
            raise ValueError(f"n_fft {self.n_fft} is odd")
        most = 1 + self.clip_samples // self.hop_length
        if self.frames > most:
            raise ValueError(f"frames {self.frames}: a clip of {self.clip_seconds:g} s has {most}")
        return self

    @property
    def clip_samples(self) -> int:
        """Length of a clip in samples."""
        return round(self.clip_seconds * self.sample_rate_hz)


class LogMel:
    """Turns a listened window into log-mel clips. See `LogMelConfig`."""

    NUMBERS: Final = 1
    """Raised whenever a change of this code changes the numbers."""

    def __init__(self, config: LogMelConfig) -> None:
        self.config = config
        self._mel_power = MelPower(
            config.sample_rate_hz, config.n_fft, config.hop_length, config.n_mels, config.f_min_hz, config.f_max_hz
        )
        all_frames = 1 + config.clip_samples // config.hop_length
        first_frame = (all_frames - config.frames) // 2
        self._first_sample = first_frame * config.hop_length - config.n_fft // 2
        """Where in the clip the first kept frame begins; negative: in the zeros before it."""
        self._samples_needed = (config.frames - 1) * config.hop_length + config.n_fft

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one clip's features: (bins, frames)."""
        return self.config.n_mels, self.config.frames

    def __call__(self, window: Waveform) -> Clips:
        """Features of the window's clips, uint8 of shape (clips, n_mels, frames)."""
        config = self.config
        mono_T = window.samples
        if window.sample_rate_hz != config.sample_rate_hz:
            mono_T = soxr.resample(mono_T, window.sample_rate_hz, config.sample_rate_hz, quality="HQ")
        with torch.inference_mode():
            levels_CMX = self._levels(self._cut(mono_T))
            features_CMX = levels_CMX.mul_(255 / config.top_db).round_().to(torch.uint8).contiguous().numpy()
        clip_seconds = config.clip_samples / config.sample_rate_hz
        starts = window.start_seconds + clip_seconds * np.arange(len(features_CMX), dtype=np.float64)
        return Clips(features_CMX, starts.astype(np.float64, copy=False))

    def _cut(self, mono_T: NDArray[np.float32]) -> torch.Tensor:
        """The samples that the kept frames of each clip need, zeros beyond the clip's ends."""
        size, first = self.config.clip_samples, self._first_sample
        whole, rest = divmod(len(mono_T), size)
        clips = max(1, whole + (2 * rest >= size))
        wave_CT = np.zeros((clips, self._samples_needed), np.float32)
        begin, end = max(0, first), min(size, first + self._samples_needed)
        inside_CT = wave_CT[:, begin - first : end - first]
        inside_CT[:whole] = mono_T[: whole * size].reshape(whole, size)[:, begin:end]
        if clips > whole:
            tail_T = mono_T[whole * size :][begin:end]
            inside_CT[whole, : len(tail_T)] = tail_T
        return torch.from_numpy(wave_CT)

    def _levels(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Decibels above the floor: 0 to top_db, shape (clips, mels, frames)."""
        power_CXM = self._mel_power(wave_CT).clamp_min_(SMALLEST_POWER)
        loudest_C11 = power_CXM.amax((1, 2), keepdim=True)
        levels_CXM = power_CXM.log10_().mul_(10).sub_(10 * loudest_C11.log10() - self.config.top_db).clamp_min_(0)
        # A silent clip is the floor throughout, not its own maximum.
        levels_CXM[loudest_C11.flatten() <= SMALLEST_POWER] = 0
        return levels_CXM.transpose(1, 2)


class MelPower:
    """Mel power of the frames of waves: Hann window, Fourier transform, re² + im², one product with the filters."""

    def __init__(
        self, sample_rate_hz: int, n_fft: int, hop_length: int, n_mels: int, f_min_hz: float, f_max_hz: float | None
    ) -> None:
        self._n_fft, self._hop_length = n_fft, hop_length
        self._hann = torch.hann_window(n_fft)
        top_hz = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
        self._filters_FM = torch.from_numpy(mel_filters(sample_rate_hz, n_fft, n_mels, f_min_hz, top_hz))

    def __call__(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Power of shape (clips, frames, mels), float32, of waves already padded: frame x begins at sample x · hop."""
        frames_CXT = wave_CT.unfold(-1, self._n_fft, self._hop_length) * self._hann
        spectrum_CXF = torch.fft.rfft(frames_CXT)
        real_CXF, imaginary_CXF = spectrum_CXF.real, spectrum_CXF.imag
        power_CXF = torch.addcmul(real_CXF * real_CXF, imaginary_CXF, imaginary_CXF)
        return power_CXF @ self._filters_FM


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
