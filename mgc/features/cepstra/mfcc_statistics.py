"""Statistics of MFCC over a clip: seven numbers for each coefficient.

C: clips, T: samples in time, M: mel bins, K: coefficients, S: statistics, X: frames.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import torch
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.features.cepstra.mfcc import CepstralConfig, CepstralFrontEnd
from mgc.features.clips import Dtype

STATISTICS: Final = ("mean", "deviation", "skewness", "kurtosis", "median", "minimum", "maximum")

_SMALLEST_DEVIATION: Final = 1e-4
"""A smaller deviation, in decibels, counts as no change: float32 rounds by as much."""


@dataclass(frozen=True, config=STRICT)
class MfccStatisticsConfig(CepstralConfig):
    """Statistics over the kept frames of the MFCC that `MfccConfig` describes, as float32, shape (7, n_mfcc).

    Rows are mean, standard deviation, skewness, kurtosis (0 for a normal distribution), median, minimum and maximum.
    These are the seven that the Free Music Archive's data set states of its MFCC (Defferrard et al., ISMIR 2017;
    moments divided by the number of frames); there they are of whole clips of 30 s at the file's own rate, mostly
    44,100 Hz. Skewness and kurtosis of a coefficient that never changes are 0; the median of an even number of frames
    is the mean of the middle two.
    """

    kind: Literal["mfcc_statistics"] = "mfcc_statistics"


class MfccStatistics(CepstralFrontEnd):
    """Turns a window into clips of MFCC statistics. See `MfccStatisticsConfig`."""

    NUMBERS: ClassVar[int] = 1
    dtype: ClassVar[Dtype] = "float32"

    def __init__(self, config: MfccStatisticsConfig) -> None:
        super().__init__(config)
        self.config = config

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (statistics, coefficients)."""
        return len(STATISTICS), self.config.n_mfcc

    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return float32 of shape (clips, 7, n_mfcc); see `ClipFrontEnd.features`."""
        mfcc_CXK = self._cepstrum(self._decibels(wave_CT)).double()
        mean_CK = mfcc_CXK.mean(dim=1)
        centred_CXK = mfcc_CXK - mean_CK.unsqueeze(1)
        deviation_CK = centred_CXK.square().mean(dim=1).sqrt()
        # A constant coefficient has neither skewness nor kurtosis.
        changes_CK = deviation_CK > _SMALLEST_DEVIATION
        standard_CXK = centred_CXK / deviation_CK.where(changes_CK, 1.0).unsqueeze(1)
        skewness_CK = standard_CXK.pow(3).mean(dim=1).where(changes_CK, 0.0)
        kurtosis_CK = (standard_CXK.pow(4).mean(dim=1) - 3).where(changes_CK, 0.0)
        ordered_CXK = mfcc_CXK.sort(dim=1).values
        frames = ordered_CXK.shape[1]
        median_CK = (ordered_CXK[:, (frames - 1) // 2] + ordered_CXK[:, frames // 2]) / 2
        lowest_CK, highest_CK = ordered_CXK[:, 0], ordered_CXK[:, -1]
        rows = (mean_CK, deviation_CK, skewness_CK, kurtosis_CK, median_CK, lowest_CK, highest_CK)
        return torch.stack(rows, dim=1).float()
