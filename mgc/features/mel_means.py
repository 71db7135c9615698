"""Average loudness of each mel bin.

C: clips, T: samples in time, M: mel bins, X: frames.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.features.clips import Dtype
from mgc.features.mel import LevelConfig, MelFrontEnd, levels


@dataclass(frozen=True, config=STRICT)
class MelMeansConfig(LevelConfig):
    """The row means of a log-mel spectrogram as float32, shape (n_mels,).

    The mean over the kept frames of each bin's decibels below the reference, -`top_db` to 0. With the defaults:
    librosa.power_to_db(mel power, ref=np.max, top_db=80).mean(axis=1); a silent clip is -`top_db` throughout.
    """

    kind: Literal["mel_means"] = "mel_means"


class MelMeans(MelFrontEnd):
    """Turns a window into vectors of mel row means. See `MelMeansConfig`."""

    NUMBERS: ClassVar[int] = 2
    dtype: ClassVar[Dtype] = "float32"

    def __init__(self, config: MelMeansConfig) -> None:
        super().__init__(config)
        self.config = config

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (bins,)."""
        return (self.config.n_mels,)

    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return float32 of shape (clips, n_mels); see `ClipFrontEnd.features`."""
        return levels(self._mel_power(wave_CT), self.config).mean(dim=1).sub_(self.config.top_db)
