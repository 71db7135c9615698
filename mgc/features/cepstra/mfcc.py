"""Mel-frequency cepstral coefficients of clips, equal to librosa's.

C: clips, T: samples in time, M: mel bins, K: coefficients, X: frames.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.features.clips import Dtype
from mgc.features.cutting import Constants
from mgc.features.mel import MelConfig, MelFrontEnd
from mgc.features.mel_power import SMALLEST_POWER
from mgc.models.blocks import cosine_transform


@dataclass(frozen=True, config=STRICT)
class CepstralConfig(MelConfig):
    """Mel power in decibels and its cosine transform, shared by all cepstral front ends.

    The decibels are those of librosa.power_to_db's defaults: re power 1, with a floor `top_db` below the clip's maximum
    (over the kept frames). Unlike the log-mel of `LevelConfig` they depend on the loudness of the clip.

    Attributes:
        n_mfcc: coefficients, from the 0th on; `n_mels` at most.
    """

    n_mfcc: int = Field(default=20, ge=1, le=512)

    @model_validator(mode="after")
    def _coefficients_fit(self) -> Self:
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc {self.n_mfcc}: {self.n_mels} mel bins have {self.n_mels} coefficients")
        return self


@dataclass(frozen=True, config=STRICT)
class MfccConfig(CepstralConfig):
    """MFCC as float16, shape (n_mfcc, frames): the orthonormal cosine transform (type II) of the mel bins' decibels.

    With `frames` at all a clip has, librosa.feature.mfcc with its defaults; with fewer, that of the middle frames.
    float16 rounds to 11 bits: by one part in 2048 at most, half a unit for a 0th coefficient of 1000.
    """

    kind: Literal["mfcc"] = "mfcc"


class CepstralFrontEnd(MelFrontEnd):
    """A front end made of mel decibels and their cosine transform."""

    def __init__(self, config: CepstralConfig) -> None:
        super().__init__(config)
        self._top_db = config.top_db
        self._dct = Constants(cosine_transform(config.n_mels, config.n_mfcc))

    def _decibels(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return decibels re power 1, shape (clips, frames, mels)."""
        db_CXM = self._mel_power(wave_CT).clamp_min_(SMALLEST_POWER).log10_().mul_(10)
        return db_CXM.clamp_min_(db_CXM.amax((1, 2), keepdim=True) - self._top_db)

    def _cepstrum(self, db_CXM: torch.Tensor) -> torch.Tensor:
        """Return MFCC, shape (clips, frames, coefficients)."""
        (dct_MK,) = self._dct.on(db_CXM.device)
        return db_CXM @ dct_MK


class Mfcc(CepstralFrontEnd):
    """Turns a window into clips of MFCC. See `MfccConfig`."""

    NUMBERS: ClassVar[int] = 1
    dtype: ClassVar[Dtype] = "float16"

    def __init__(self, config: MfccConfig) -> None:
        super().__init__(config)
        self.config = config

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (coefficients, frames)."""
        return self.config.n_mfcc, self.config.frames

    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return float16 of shape (clips, n_mfcc, frames); see `ClipFrontEnd.features`."""
        return self._cepstrum(self._decibels(wave_CT)).transpose(1, 2).to(torch.float16).contiguous()
