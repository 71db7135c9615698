"""Every architecture by its configuration."""

from __future__ import annotations

from typing import Annotated, assert_never

from pydantic import Field

from mgc.models.blocks import Classifier
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.models.obeirne import OBeirneCnn, OBeirneCnnConfig

ModelConfig = Annotated[HouseCnnConfig | OBeirneCnnConfig, Field(discriminator="kind")]


def build_model(config: HouseCnnConfig | OBeirneCnnConfig, input_shape: tuple[int, int], genres: int) -> Classifier:
    """A freshly initialised network.

    Args:
        config: which network, and how large.
        input_shape: (bins, frames) of one clip's features.
        genres: number of logits.
    """
    match config:
        case HouseCnnConfig():
            return HouseCnn(config, genres)
        case OBeirneCnnConfig():
            return OBeirneCnn(config, input_shape, genres)
        case _:
            assert_never(config)
