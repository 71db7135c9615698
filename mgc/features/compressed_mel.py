"""Mel power under logarithmic compression.

C: clips, T: samples in time, M: mel bins, X: frames.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.features.clips import Dtype
from mgc.features.cutting import ClipFrontEnd, Cutter, FramedConfig
from mgc.features.mel_power import MelPower

_LARGEST_POWER: Final = torch.finfo(torch.float16).max
"""Power above counts as this much."""


@dataclass(frozen=True, config=STRICT)
class CompressedMelConfig(FramedConfig):
    """log10(1 + compression · mel power) as float32, shape (n_mels, frames).

    The window is resampled and cut as `ClipConfig` says, but a last clip that would be padded begins earlier. The
    defaults are those of musicnn (Pons and Serra, 2019): the mel power of librosa.feature.melspectrogram, rounded to
    float16 (65,504 at most), in clips of 187 frames. The clips are cut out of the spectrogram of the whole window, so a
    clip's outer frames hear the sound beyond its ends.

    Attributes:
        n_fft: length of a frame in samples.
        n_mels: mel bins, from 0 Hz to half the sample rate.
        compression: factor of the power.
    """

    kind: Literal["compressed_mel"] = "compressed_mel"
    sample_rate_hz: int = Field(default=16_000, ge=4000, le=192_000)
    clip_seconds: float = Field(default=2.992, ge=0.1, le=600.0)
    hop_length: int = Field(default=256, ge=16, le=16384)
    frames: int = Field(default=187, ge=1)
    n_fft: int = Field(default=512, ge=64, le=16384, multiple_of=2)
    n_mels: int = Field(default=96, ge=8, le=512)
    compression: float = Field(default=10_000.0, gt=0.0, le=1e9)

    @model_validator(mode="after")
    def _power_fits(self) -> Self:
        if self.n_fft < self.hop_length:
            raise ValueError(f"hop_length {self.hop_length} is longer than a frame, n_fft {self.n_fft}")
        return self


class CompressedMel(ClipFrontEnd):
    """Turns a window into clips of compressed mel power. See `CompressedMelConfig`."""

    NUMBERS: ClassVar[int] = 1
    dtype: ClassVar[Dtype] = "float32"

    def __init__(self, config: CompressedMelConfig) -> None:
        super().__init__(Cutter.of_frames(config, config.n_fft, across=True, overlap=True))
        self.config = config
        self._mel_power = MelPower.like_librosa(
            config.sample_rate_hz, config.n_fft, config.hop_length, config.n_mels, f_min_hz=0.0, f_max_hz=None
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (bins, frames)."""
        return self.config.n_mels, self.config.frames

    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return float32 of shape (clips, n_mels, frames); see `ClipFrontEnd.features`."""
        # Samples of floats may lie far beyond ±1, and from 65,520 on float16 rounds to infinity.
        power_CXM = self._mel_power(wave_CT).clamp_max_(_LARGEST_POWER).half().float()
        return power_CXM.mul_(self.config.compression).add_(1.0).log10_().transpose(1, 2).contiguous()
