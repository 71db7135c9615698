"""A coarse picture of a whole window: about half a minute in 128 columns.

T: samples in time, X: frames, M: mel bins.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.audio.waveform import Waveform
from mgc.configuration import STRICT
from mgc.features.clips import Clips, Dtype
from mgc.features.cutting import resample
from mgc.features.mel_power import MelPower, levels_below


@dataclass(frozen=True, config=STRICT)
class ThumbnailConfig:
    """A coarse log-mel picture of each window, of one band in hertz whatever the file's sample rate.

    The window is resampled (soxr, HQ). Of its mel power (the defaults of librosa.feature.melspectrogram, `n_mels`
    filters up to half of `sample_rate_hz`) the lowest `bins` rows are kept, in decibels below their maximum, mapped
    linearly: 0 is -`top_db` and less, 255 the maximum. Of the T frames `columns` are kept: column x is frame floor((x +
    0.5) · T / columns). A window of fewer frames than columns repeats frames by the same formula. Loudness does not
    matter; a silent window (nothing above 1e-20) is 0 throughout.

    One window is one clip, whatever its length: with windows of 30 s a column stands for 0.23 s; a shorter track is
    stretched, which a model trained on 30 s clips has not seen.

    With the defaults the highest row ends at 10,236 Hz. So files of 22,050 Hz, and lossy ones of few bits, give the
    picture of the original.

    Attributes:
        sample_rate_hz: sample rate after resampling.
        n_fft: length of a frame in samples.
        hop_length: samples from one frame to the next.
        n_mels: mel filters up to half the sample rate.
        bins: number of filters kept, the lowest; the others are not heard.
        top_db: range in decibels.
        columns: number of frames kept.
    """

    kind: Literal["thumbnail"] = "thumbnail"
    sample_rate_hz: int = Field(default=44100, ge=4000, le=192_000)
    n_fft: int = Field(default=2048, ge=64, le=16384, multiple_of=2)
    hop_length: int = Field(default=512, ge=16, le=16384)
    n_mels: int = Field(default=128, ge=8, le=512)
    bins: int = Field(default=104, ge=8, le=512)
    top_db: float = Field(default=80.0, gt=0.0, le=200.0)
    columns: int = Field(default=128, ge=1, le=4096)

    @model_validator(mode="after")
    def _bins_fit(self) -> Self:
        if self.bins > self.n_mels:
            raise ValueError(f"bins {self.bins}: there are only {self.n_mels} mel filters")
        return self


class Thumbnail:
    """Turns a window into one thumbnail. See `ThumbnailConfig`."""

    NUMBERS: ClassVar[int] = 2
    """Version of the numbers: raised whenever a change of this code, or of code that it uses, changes them."""

    dtype: ClassVar[Dtype] = "uint8"

    def __init__(self, config: ThumbnailConfig) -> None:
        self.config = config
        self._mel_power = MelPower.like_librosa(
            config.sample_rate_hz, config.n_fft, config.hop_length, config.n_mels, 0.0, None, config.bins
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (bins, columns)."""
        return self.config.bins, self.config.columns

    def __call__(self, window: Waveform) -> Clips:
        """Return features of the window as one clip: uint8 of shape (1, bins, columns)."""
        config = self.config
        with torch.inference_mode():
            wave_T = self._pad(resample(window, config.sample_rate_hz))
            frames = 1 + (len(wave_T) - config.n_fft) // config.hop_length
            kept = ((torch.arange(config.columns, dtype=torch.float64) + 0.5) * frames / config.columns).long()
            power_XM = self._mel_power.of_frames(wave_T, kept)
            # The maximum of all frames sets the scale, also of those that are not kept.
            loudest = self._mel_power.loudest(wave_T, power_XM.max())
            levels_XM = levels_below(power_XM, loudest, config.top_db)
            features_MX = levels_XM.mul_(255 / config.top_db).round_().to(torch.uint8).T.contiguous().numpy()
        return Clips(features_MX[None], np.array([window.start_seconds]))

    def _pad(self, mono_T: NDArray[np.float32]) -> torch.Tensor:
        """Return the samples between zeros, so that frames are centred."""
        half = self.config.n_fft // 2
        padded_T = np.empty(len(mono_T) + 2 * half, np.float32)
        padded_T[:half] = padded_T[-half:] = 0
        padded_T[half:-half] = mono_T
        return torch.from_numpy(padded_T)
