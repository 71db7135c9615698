"""Front ends: from a listened window to clips of features. Which there are, and the id of the numbers they give."""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import Field

from mgc.audio.waveform import Waveform
from mgc.configuration import short_hash, to_json
from mgc.features.clips import Clips
from mgc.features.mel import LogMel, LogMelConfig
from mgc.features.thumbnail import Thumbnail, ThumbnailConfig

__all__ = ["Clips", "FrontEnd", "FrontEndConfig", "build_front_end", "features_id"]

FrontEndConfig = Annotated[LogMelConfig | ThumbnailConfig, Field(discriminator="kind")]
"""The configuration of any front end; `kind` says which."""


class FrontEnd(Protocol):
    """A callable that turns a listened window into clips of features."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one clip's features: (bins, frames)."""

    def __call__(self, window: Waveform) -> Clips:
        """Features of the window's clips; one clip at least."""


def build_front_end(config: LogMelConfig | ThumbnailConfig) -> FrontEnd:
    """The front end of a configuration."""
    return LogMel(config) if isinstance(config, LogMelConfig) else Thumbnail(config)


def features_id(config: LogMelConfig | ThumbnailConfig) -> str:
    """Twelve hexadecimal digits that change when, and only when, the front end's numbers can change."""
    front_end = LogMel if isinstance(config, LogMelConfig) else Thumbnail
    return short_hash({"front_end": to_json(config), "numbers": front_end.NUMBERS})
