"""A log-mel spectrogram stacked on its MFCC.

C: clips, T: samples in time, M: mel bins, K: coefficients, X: frames.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.features.cepstra.mfcc import CepstralConfig, CepstralFrontEnd
from mgc.features.clips import Dtype


@dataclass(frozen=True, config=STRICT)
class MelMfccConfig(CepstralConfig):
    """Mel decibels and MFCC stacked along frequency, as float16, shape (n_mels + n_mfcc, frames): 148 rows.

    Rows 0 to n_mels - 1 are the decibels that `CepstralConfig` describes, the lowest bin first; then come their MFCC,
    as `MfccConfig` describes them. float16 rounds to 11 bits: decibels by 0.03 at most up to 128.
    """

    kind: Literal["mel_mfcc"] = "mel_mfcc"


class MelMfcc(CepstralFrontEnd):
    """Turns a window into clips of mel decibels and MFCC. See `MelMfccConfig`."""

    NUMBERS: ClassVar[int] = 1
    dtype: ClassVar[Dtype] = "float16"

    def __init__(self, config: MelMfccConfig) -> None:
        super().__init__(config)
        self.config = config

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (bins and coefficients, frames)."""
        return self.config.n_mels + self.config.n_mfcc, self.config.frames

    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return float16 of shape (clips, n_mels + n_mfcc, frames); see `ClipFrontEnd.features`."""
        db_CXM = self._decibels(wave_CT)
        rows_CXR = torch.cat((db_CXM, self._cepstrum(db_CXM)), dim=2)
        return rows_CXR.transpose(1, 2).to(torch.float16).contiguous()
