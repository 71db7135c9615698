"""Every architecture by its configuration."""

from __future__ import annotations

from typing import Annotated, assert_never

from pydantic import Field

from mgc.errors import ConfigError
from mgc.models.blocks import Classifier
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.models.obeirne import SMALLEST_SIDE, OBeirneCnn, OBeirneCnnConfig

ModelConfig = Annotated[HouseCnnConfig | OBeirneCnnConfig, Field(discriminator="kind")]
"""The configuration of any network; `kind` says which."""


def build_model(config: HouseCnnConfig | OBeirneCnnConfig, input_shape: tuple[int, ...], genres: int) -> Classifier:
    """A freshly initialised network, its weights drawn from torch's global generator.

    Args:
        config: which network, and how large.
        input_shape: of one clip's features.
        genres: number of logits.

    Raises:
        ConfigError: the network does not take features of this shape.
    """
    check_input(config, input_shape)
    match config:
        case HouseCnnConfig():
            return HouseCnn(config, genres)
        case OBeirneCnnConfig():
            bins, frames = input_shape
            return OBeirneCnn(config, (bins, frames), genres)
        case _:
            assert_never(config)


def check_input(config: HouseCnnConfig | OBeirneCnnConfig, input_shape: tuple[int, ...]) -> None:
    """Refuse features that are not bins over frames, or too small for the network.

    Args:
        config: of the network.
        input_shape: of one clip's features.

    Raises:
        ConfigError: naming both.
    """
    if len(input_shape) != 2:
        raise ConfigError(
            f"model {config.kind} takes features of bins x frames, "
            f"the front end gives {' x '.join(map(str, input_shape))} numbers."
        )
    smallest = SMALLEST_SIDE if isinstance(config, OBeirneCnnConfig) else 1
    bins, frames = input_shape
    if min(bins, frames) < smallest:
        raise ConfigError(
            f"model {config.kind} needs {smallest} bins and {smallest} frames at least, "
            f"the front end gives {bins} bins and {frames} frames."
        )
