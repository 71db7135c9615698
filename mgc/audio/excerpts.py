"""Which seconds of a track are heard."""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT

WHOLE_TOLERANCE: Final = 1.1
"""A track of up to this many windows is heard whole: a "30-second clip" is seldom 30.000 s long."""


class Excerpt(NamedTuple):
    """A stretch of a track: where it begins and how long it is, in seconds."""

    start_seconds: float
    seconds: float


@dataclass(frozen=True, config=STRICT)
class ListeningPlan:
    """Listen to a few windows spread evenly over the track.

    The track is cut into equal parts, one a window, and the middle `window_seconds` of each part are heard. So a single
    window is the middle of the track, three windows of a long track are centred on its 1/6, 3/6 and 5/6, and windows
    never overlap. There are as many parts as whole windows fit into the track, `windows` at most: with three windows
    of 30 s, 50 s give one (the middle), 70 s two, 90 s and more three. A track no longer than 1.1 windows is heard
    whole, as one.

    Attributes:
        window_seconds: length of a window.
        windows: the most windows heard of one track.
    """

    window_seconds: float = Field(default=30.0, ge=0.5, le=600.0)
    windows: int = Field(default=3, ge=1, le=100)

    def excerpts(self, duration_seconds: float) -> tuple[Excerpt, ...]:
        """The stretches heard of a track, in order of time, inside [0, duration_seconds]; one at least."""
        if duration_seconds <= self.window_seconds * WHOLE_TOLERANCE:
            return (Excerpt(0.0, duration_seconds),)
        parts = min(self.windows, int(duration_seconds / self.window_seconds))
        part_seconds = duration_seconds / parts
        margin_seconds = (part_seconds - self.window_seconds) / 2
        return tuple(Excerpt(part * part_seconds + margin_seconds, self.window_seconds) for part in range(parts))
