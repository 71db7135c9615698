"""Log-mel spectrograms in clips, equal to librosa's.

C: clips, T: samples in time, M: mel bins, X: frames.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT, JsonObject
from mgc.features.clips import Dtype
from mgc.features.cutting import ClipFrontEnd, Cutter, FramedConfig
from mgc.features.mel_power import SMALLEST_POWER, MelPower, levels_below

_FLOOR_DB = 10 * np.log10(SMALLEST_POWER)


@dataclass(frozen=True, config=STRICT)
class MelConfig(FramedConfig):
    """Mel power of consecutive short clips: what the front ends made of it share.

    The window is resampled and cut as `ClipConfig` says. Each clip's mel power (the defaults of
    librosa.feature.melspectrogram: Hann window, frames centred, zeros beyond the clip's ends, Slaney filters) is cut to
    its middle `frames` frames. Where decibels are re power 1, power below 1e-10 counts as 1e-10.

    Attributes:
        n_fft: length of a frame in samples.
        n_mels: mel bins.
        f_min_hz: lower edge of the lowest mel filter.
        f_max_hz: upper edge of the highest; None is half the sample rate.
        top_db: range in decibels.
    """

    n_fft: int = Field(default=2048, ge=64, le=16384)
    n_mels: int = Field(default=128, ge=8, le=512)
    f_min_hz: float = Field(default=0.0, ge=0.0)
    f_max_hz: float | None = Field(default=None, gt=0.0)
    top_db: float = Field(default=80.0, gt=0.0, le=200.0)

    @model_validator(mode="after")
    def _mels_fit(self) -> Self:
        if self.top_hz > self.sample_rate_hz / 2:
            raise ValueError(f"f_max_hz {self.top_hz:g} is above half the sample rate, {self.sample_rate_hz / 2:g}")
        if self.f_min_hz >= self.top_hz:
            raise ValueError(f"f_min_hz {self.f_min_hz:g} is not below the highest frequency, {self.top_hz:g}")
        if self.n_fft % 2:
            raise ValueError(f"n_fft {self.n_fft} is odd")
        return self

    @property
    def top_hz(self) -> float:
        """Upper edge of the highest mel filter."""
        return self.sample_rate_hz / 2 if self.f_max_hz is None else self.f_max_hz

    def identity(self) -> JsonObject:
        """Return the values of `ClipConfig.identity`, with half the sample rate under one name."""
        return super().identity() | {"f_max_hz": self.top_hz}


@dataclass(frozen=True, config=STRICT)
class LevelConfig(MelConfig):
    """Decibels between a floor and a reference, `top_db` above it.

    Attributes:
        reference_db: highest level in decibels re power 1; louder sound is clipped to it. None takes the maximum of
            each clip (over the kept frames), so that loudness does not matter; a silent clip (nothing above 1e-20) is
            then all floor.
    """

    reference_db: float | None = Field(default=None, ge=-100.0, le=200.0)

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        if self.reference_db is not None and self.reference_db - self.top_db < _FLOOR_DB:
            floor_db = self.reference_db - self.top_db
            raise ValueError(f"reference_db - top_db is {floor_db:g} dB; powers below {_FLOOR_DB:g} dB all look alike")
        return self


@dataclass(frozen=True, config=STRICT)
class LogMelConfig(LevelConfig):
    """Log-mel spectrograms as uint8, shape (n_mels, frames): 0 is the floor, reference - `top_db`; 255 the reference.

    With the defaults: librosa.power_to_db(mel power, ref=np.max, top_db=80), rounded to steps of 80 / 255 dB; a silent
    clip is 0 throughout.
    """

    kind: Literal["log_mel"] = "log_mel"


class MelFrontEnd(ClipFrontEnd):
    """A front end made of the mel power of clips."""

    def __init__(self, config: MelConfig) -> None:
        super().__init__(Cutter.of_frames(config, config.n_fft))
        self._mel_power = MelPower.like_librosa(
            config.sample_rate_hz, config.n_fft, config.hop_length, config.n_mels, config.f_min_hz, config.f_max_hz
        )


class LogMel(MelFrontEnd):
    """Turns a window into log-mel clips. See `LogMelConfig`."""

    NUMBERS: ClassVar[int] = 2
    dtype: ClassVar[Dtype] = "uint8"

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__(config)
        self.config = config

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (bins, frames)."""
        return self.config.n_mels, self.config.frames

    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return uint8 of shape (clips, n_mels, frames); see `ClipFrontEnd.features`."""
        levels_CXM = levels(self._mel_power(wave_CT), self.config)
        return to_steps(levels_CXM, self.config).transpose(1, 2).to(torch.uint8).contiguous()


def levels(power_CXM: torch.Tensor, config: LevelConfig) -> torch.Tensor:
    """Return decibels above the floor, 0 to top_db, of the same shape. Overwrites the power."""
    if config.reference_db is not None:
        return (
            power_CXM.clamp_min_(SMALLEST_POWER)
            .log10_()
            .mul_(10)
            .sub_(config.reference_db - config.top_db)
            .clamp_(0, config.top_db)
        )
    return levels_below(power_CXM, power_CXM.amax((1, 2), keepdim=True), config.top_db)


def to_steps(levels_CXM: torch.Tensor, config: LevelConfig) -> torch.Tensor:
    """Return whole steps 0 to 255 as floats. Overwrites the levels."""
    return levels_CXM.mul_(255 / config.top_db).round_()
