"""A dense network on statistics of the cepstrum over time, without convolutions.

The statistics are long established in music information retrieval: means and deviations of cepstral
coefficients (Tzanetakis and Cook, 2002), their covariance (Mandel and Ellis, 2005), and modulation spectra of bands
(McKinney and Breebaart, 2003).

Axes: B batch, F mel bins, T frames, C coefficients, K bands, M modulation frequencies, S statistics, D embedding,
G genres.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier, Share, Width, cosine_transform
from mgc.models.dense import Dense, DenseConfig

_FARTHEST: Final = 5.0
"""Statistics are clipped at this many deviations from the mean."""


@dataclass(frozen=True, config=STRICT)
class StatisticsConfig:
    """Configuration of `Statistics`.

    Attributes:
        coefficients: C, number of cepstral coefficients, from the 0th on.
        covariances: number of first coefficients whose covariances are taken.
        bands: K, number of bands whose modulation is taken.
        modulations: M, number of modulation frequencies.
        hidden: units of each hidden layer.
        input_dropout: share of the statistics zeroed.
        dropout: share zeroed after each hidden layer.
    """

    kind: Literal["statistics"] = "statistics"
    coefficients: Annotated[int, Field(ge=1, le=256)] = 24
    covariances: Annotated[int, Field(ge=0, le=256)] = 12
    bands: Annotated[int, Field(ge=1, le=256)] = 8
    modulations: Annotated[int, Field(ge=1, le=256)] = 16
    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)] = (256,)
    input_dropout: Share = 0.1
    dropout: Share = 0.3


class Statistics(Classifier):
    """Mean, deviation, skewness and mean change of each coefficient, covariances and modulation; then dense layers.

    Args:
        config: statistics and layers.
        bins: F, bins of the features.
        genres: number of logits.
    """

    dct: torch.Tensor
    pairs: torch.Tensor

    def __init__(self, config: StatisticsConfig, bins: int, genres: int) -> None:
        super().__init__()
        coefficients = min(config.coefficients, bins)
        first = min(config.covariances, coefficients)
        self._bands, self._modulations, self._first = config.bands, config.modulations, first
        # The configuration determines these, so they are not saved.
        self.register_buffer("dct", cosine_transform(bins, coefficients), persistent=False)
        self.register_buffer("pairs", torch.triu_indices(first, first, 1, device="cpu"), persistent=False)
        size = 4 * coefficients + first * (first - 1) // 2 + config.bands * config.modulations
        # The scale comes from the batches; it is not learned.
        self.standardise = nn.BatchNorm1d(size, affine=False)
        self.input_dropout = nn.Dropout(config.input_dropout)
        layers = DenseConfig(hidden=config.hidden, batch_norm=True, dropout=config.dropout, init="torch")
        dense = Dense(layers, (size,), genres)
        self.hidden, self.head = dense.hidden, dense.head

    def statistics(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return the statistics (B, S), float32."""
        with torch.no_grad(), torch.autocast(features_BFT.device.type, enabled=False):
            features_BFT = features_BFT.float()
            cepstrum_BCT = self.dct.T @ features_BFT
            deviation_BC, mean_BC = torch.std_mean(cepstrum_BCT, dim=2, correction=0)
            apart_BCT = cepstrum_BCT - mean_BC.unsqueeze(2)
            skewness_BC = apart_BCT.pow(3).mean(2) / (deviation_BC.pow(3) + 1e-3)
            steps_BCT = cepstrum_BCT[:, :, 1:] - cepstrum_BCT[:, :, :-1]
            change_BC = steps_BCT.abs().sum(2) / max(steps_BCT.shape[2], 1)
            first_BCT = apart_BCT[:, : self._first]
            covariance_BCC = first_BCT @ first_BCT.transpose(1, 2) / first_BCT.shape[2]
            pairs_BP = covariance_BCC[:, self.pairs[0], self.pairs[1]]
            kinds = [mean_BC, deviation_BC, skewness_BC, change_BC, pairs_BP, self._modulation(features_BFT)]
            return torch.cat(kinds, dim=1)

    def _modulation(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of the modulation of each band at each frequency, (B, KM)."""
        # A traced size is no number, and a graph holds these matrices as constants.
        bins, frames = int(features_BFT.shape[1]), int(features_BFT.shape[2])
        bands_BKT = _averages(bins, self._bands).to(features_BFT).T @ features_BFT
        spectrum_BKM = _magnitudes(bands_BKT - bands_BKT.mean(2, keepdim=True), frames)
        spectrum_BKM = spectrum_BKM @ _averages(frames // 2, self._modulations).to(features_BFT) / frames
        return (spectrum_BKM + 1e-3).log().flatten(1)

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return activations of the last hidden layer, (B, D)."""
        taken_BS = self.standardise(self.statistics(features_BFT)).clamp(-_FARTHEST, _FARTHEST)
        embedding_BD: torch.Tensor = self.hidden(self.input_dropout(taken_BS))
        return embedding_BD

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G)."""
        logits_BG: torch.Tensor = self.head(embedding_BD)
        return logits_BG


def _averages(values: int, parts: int) -> torch.Tensor:
    """Return the matrix (values, parts) that averages over parts as equal as they can be; neighbours may overlap."""
    number_P = torch.arange(parts)
    first_P, end_P = number_P * values // parts, -(-(number_P + 1) * values // parts)
    value_V1 = torch.arange(values).unsqueeze(1)
    return ((value_V1 >= first_P) & (value_V1 < end_P)) / (end_P - first_P)


def _magnitudes(bands_BKT: torch.Tensor, frames: int) -> torch.Tensor:
    """Return the magnitudes of the Fourier transform at the frequencies from 1 to frames / 2, (B, K, frames // 2)."""
    # By products with matrices, because a graph has no complex numbers.
    turns_TM = torch.outer(torch.arange(frames), torch.arange(1, frames // 2 + 1)) % frames
    angles_TM = turns_TM.to(bands_BKT) * (2 * math.pi / frames)
    return ((bands_BKT @ angles_TM.cos()).square() + (bands_BKT @ angles_TM.sin()).square()).sqrt()
