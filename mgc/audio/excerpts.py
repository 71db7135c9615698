"""Which seconds of a track are heard."""

from __future__ import annotations

import hashlib
from typing import Final, Literal, NamedTuple

import numpy as np
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
    """Listen to a few windows of a track, or to all of it.

    By `where`:

    - `spread`: the track is cut into equal parts, one a window, and the middle `window_seconds` of each part are heard.
      So a single window is the middle of the track, three windows of a long track are centred on its 1/6, 3/6 and 5/6.
      There are as many parts as whole windows fit into the track, `windows` at most: with three windows of 30 s, 50 s
      give one (the middle), 70 s two, 90 s and more three.
    - `first`: the first windows of the track, one behind the other.
    - `random`: as many windows as `spread` has, each at a random place of its own part: uniform over the track, drawn
      from `seed` and the track's own id, so that a track is heard alike wherever and whenever it is heard.
    - `all`: the whole track in windows one behind the other; a last one of less than half joins the one before it.
      `windows` does not matter.

    Windows never overlap. A track no longer than 1.1 windows is heard whole, as one window.

    Attributes:
        window_seconds: length of a window.
        windows: the most windows heard of one track.
        where: how they are placed.
        seed: of random places.
    """

    window_seconds: float = Field(default=30.0, ge=0.5, le=600.0)
    windows: int = Field(default=3, ge=1, le=100)
    where: Literal["spread", "first", "random", "all"] = "spread"
    seed: int = Field(default=0, ge=0)

    def excerpts(self, duration_seconds: float, track_id: str = "") -> tuple[Excerpt, ...]:
        """The stretches heard of a track, in order of time, inside [0, duration_seconds]; one at least.

        Args:
            duration_seconds: length of the track.
            track_id: for random places.
        """
        window = self.window_seconds
        if duration_seconds <= window * WHOLE_TOLERANCE:
            return (Excerpt(0.0, duration_seconds),)
        fitting = int(duration_seconds / window)
        if self.where == "all":
            count = fitting + (duration_seconds - fitting * window >= window / 2)
            starts = [window * index for index in range(count)]
            return (
                *(Excerpt(start, window) for start in starts[:-1]),
                Excerpt(starts[-1], duration_seconds - starts[-1]),
            )
        count = min(self.windows, fitting)
        if self.where == "first":
            return tuple(Excerpt(window * index, window) for index in range(count))
        part = duration_seconds / count
        shares = np.full(count, 0.5)
        if self.where == "random":
            digest = hashlib.blake2b(f"{self.seed} {track_id}".encode(), digest_size=8).digest()
            shares = np.random.default_rng(int.from_bytes(digest, "big")).uniform(size=count)
        return tuple(
            Excerpt(index * part + (part - window) * float(share), window) for index, share in enumerate(shares)
        )
