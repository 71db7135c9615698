"""Log-mel spectrograms as colour pictures, like a plot.

C: clips, T: samples in time, M: mel bins, X: frames, H: height, W: width, R: red, green, blue.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.features.clips import Dtype
from mgc.features.cutting import Constants
from mgc.features.mel import LevelConfig, MelFrontEnd, levels, to_steps
from mgc.features.viridis import viridis


@dataclass(frozen=True, config=STRICT)
class MelImageConfig(LevelConfig):
    """Log-mel spectrograms in the colours of viridis as uint8, shape (height, width, 3): red, green, blue.

    The uint8 log-mel (`LogMelConfig`) is turned upside down, so that low frequencies lie at the bottom, mapped through
    viridis (0 is dark violet, 255 yellow) and resized from n_mels x frames to height x width: bilinear, with
    antialiasing if it becomes smaller (torch.nn.functional.interpolate), then rounded. A silent clip is all dark
    violet.

    Attributes:
        height: lines of the picture.
        width: columns of the picture.
    """

    kind: Literal["mel_image"] = "mel_image"
    height: int = Field(default=128, ge=8, le=1024)
    width: int = Field(default=128, ge=8, le=4096)


class MelImage(MelFrontEnd):
    """Turns a window into coloured pictures. See `MelImageConfig`."""

    NUMBERS: ClassVar[int] = 2
    dtype: ClassVar[Dtype] = "uint8"

    def __init__(self, config: MelImageConfig) -> None:
        super().__init__(config)
        self.config = config
        self._as_it_is = (config.n_mels, config.frames) == (config.height, config.width)
        colours_VR = torch.from_numpy(viridis())
        self._colours = Constants(colours_VR if self._as_it_is else colours_VR.T.float().contiguous())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (height, width, 3)."""
        return self.config.height, self.config.width, 3

    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return uint8 of shape (clips, height, width, 3); see `ClipFrontEnd.features`."""
        config = self.config
        steps_CXM = to_steps(levels(self._mel_power(wave_CT), config), config)
        steps_CMX = steps_CXM.transpose(1, 2).to(torch.int32).contiguous().flip(1)
        (colours,) = self._colours.on(wave_CT.device)
        if self._as_it_is:
            return colours[steps_CMX]
        image_CRMX = colours[:, steps_CMX].transpose(0, 1)
        image_CRHW = torch.nn.functional.interpolate(
            image_CRMX, size=(config.height, config.width), mode="bilinear", antialias=True
        )
        return image_CRHW.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
