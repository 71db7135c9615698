"""Which seconds of a track mgc listens to."""

from __future__ import annotations

import hashlib
from typing import Final, Literal, NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT

WHOLE_TOLERANCE: Final = 1.1
"""A track of up to this many windows becomes one window: a "30-second clip" is seldom exactly 30 s long."""


class Excerpt(NamedTuple):
    """A stretch of a track: its start and its length in seconds."""

    start_seconds: float
    seconds: float


@dataclass(frozen=True, config=STRICT)
class ListeningPlan:
    """Listen to a few windows of a track, or to all of it.

    By `where`:

    - `spread`: the track is divided into equal parts, and the middle of each part is a window. A single window is the
      middle of the track; three windows of a long track are centred on its 1/6, 3/6 and 5/6. There are as many windows
      as fit into the track, up to `windows`: with three windows of 30 s, a track of 50 s has one, of 70 s two, and of
      90 s or more three.
    - `first`: consecutive windows from the start of the track.
    - `random`: as many windows as `spread` has, each at a random place of its part. The places are uniform and follow
      from `seed` and the track's id, so they are the same on every machine and in every run.
    - `all`: the whole track in consecutive windows; a last window of less than half joins the one before it. `windows`
      is ignored.

    Windows never overlap. A track no longer than 1.1 windows becomes one window.

    Attributes:
        window_seconds: length of a window.
        windows: largest number of windows.
        where: placement of the windows.
        seed: seed of random places.
    """

    window_seconds: float = Field(default=30.0, ge=0.5, le=600.0)
    windows: int = Field(default=3, ge=1, le=100)
    where: Literal["spread", "first", "random", "all"] = "spread"
    seed: int = Field(default=0, ge=0)

    def excerpts(self, duration_seconds: float, track_id: str = "") -> tuple[Excerpt, ...]:
        """Return the windows of a track in order of time, inside [0, duration_seconds]; at least one.

        Args:
            duration_seconds: length of the track.
            track_id: id of the track, which seeds random places.
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
