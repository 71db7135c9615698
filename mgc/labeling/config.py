"""What a bundle labels."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.audio.decode import MIN_SECONDS
from mgc.configuration import STRICT


@dataclass(frozen=True, config=STRICT)
class LabelingConfig:
    """Which recordings a bundle labels. The defaults are those of bundles that do not say it.

    Attributes:
        min_seconds: length of the shortest recording that it labels; shorter ones are `too_short`.
    """

    min_seconds: float = Field(default=MIN_SECONDS, ge=MIN_SECONDS, le=600.0)
