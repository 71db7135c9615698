"""A coarse picture of a whole window: about half a minute in 128 columns.

T: samples in time, X: frames, M: mel bins.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.audio.waveform import Waveform
from mgc.configuration import STRICT
from mgc.features.clips import Clips, Dtype
from mgc.features.mel_power import SMALLEST_POWER, MelPower

_FRAMES_AT_ONCE: Final = 256
"""Frames transformed together. Their spectra of about 2 MB fit into the processor's cache."""


@dataclass(frozen=True, config=STRICT)
class ThumbnailConfig:
    """A coarse log-mel picture of each window, at the file's own sample rate.

    The mel power of the whole window (the defaults of librosa.feature.melspectrogram, filters up to half the rate) is
    taken in decibels below its maximum with a floor at -`top_db`, mapped linearly so that the window's lowest value is
    0 and its highest 255, and of its T frames `columns` are kept: column x is frame floor((x + 0.5) · T / columns). A
    window of fewer frames than columns repeats frames by the same formula. A silent window is 0 throughout.

    One window is one clip, whatever its length: with windows of 30 s a column stands for 0.23 s; a shorter track is
    stretched, which a model trained on 30 s clips has not seen.

    Attributes:
        n_fft: length of a frame in samples.
        hop_length: samples from one frame to the next.
        n_mels: mel bins.
        top_db: range in decibels.
        columns: number of frames kept.
    """

    kind: Literal["thumbnail"] = "thumbnail"
    n_fft: int = Field(default=2048, ge=64, le=16384, multiple_of=2)
    hop_length: int = Field(default=512, ge=16, le=16384)
    n_mels: int = Field(default=128, ge=8, le=512)
    top_db: float = Field(default=80.0, gt=0.0, le=200.0)
    columns: int = Field(default=128, ge=1, le=4096)


class Thumbnail:
    """Turns a window into one thumbnail. See `ThumbnailConfig`."""

    NUMBERS: ClassVar[int] = 1
    """Version of the numbers: raised whenever a change of this code, or of code that it uses, changes them."""

    dtype: ClassVar[Dtype] = "uint8"

    def __init__(self, config: ThumbnailConfig) -> None:
        self.config = config
        self._mel_power: dict[int, MelPower] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (bins, columns)."""
        return self.config.n_mels, self.config.columns

    def __call__(self, window: Waveform) -> Clips:
        """Return features of the window as one clip: uint8 of shape (1, n_mels, columns)."""
        config = self.config
        with torch.inference_mode():
            # All frames are needed: their maximum and minimum set the scale.
            power_XM = self._power(window)
            frames = len(power_XM)
            kept = ((torch.arange(config.columns, dtype=torch.float64) + 0.5) * frames / config.columns).long()
            highest_db, lowest_db = (
                10 * np.log10(max(SMALLEST_POWER, float(power))) for power in (power_XM.max(), power_XM.min())
            )
            lowest_db = max(lowest_db, highest_db - config.top_db)
            db_XM = power_XM[kept].clamp_min_(SMALLEST_POWER).log10_().mul_(10)
            levels_XM = db_XM.sub_(lowest_db).mul_(255 / (highest_db - lowest_db) if highest_db > lowest_db else 0.0)
            features_MX = levels_XM.clamp_(0, 255).round_().to(torch.uint8).T.contiguous().numpy()
        return Clips(features_MX[None], np.array([window.start_seconds]))

    def _power(self, window: Waveform) -> torch.Tensor:
        """Return the mel power of all frames, with zeros beyond the window: shape (frames, mels)."""
        config, rate_hz = self.config, window.sample_rate_hz
        if rate_hz not in self._mel_power:
            self._mel_power[rate_hz] = MelPower(rate_hz, config.n_fft, config.hop_length, config.n_mels, 0.0, None)
        mel_power = self._mel_power[rate_hz]
        frames = 1 + len(window.samples) // config.hop_length
        padded_T = np.zeros(len(window.samples) + config.n_fft, np.float32)
        padded_T[config.n_fft // 2 : config.n_fft // 2 + len(window.samples)] = window.samples
        wave_T = torch.from_numpy(padded_T)
        parts = []
        for first in range(0, frames, _FRAMES_AT_ONCE):
            count = min(_FRAMES_AT_ONCE, frames - first)
            begin = first * config.hop_length
            parts.append(mel_power(wave_T[begin : begin + (count - 1) * config.hop_length + config.n_fft]))
        return torch.cat(parts)
