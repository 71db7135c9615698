"""How many bytes of files a batch holds in memory at once, counted as they are read."""

from __future__ import annotations

import threading
from collections.abc import Mapping


class PostponedError(Exception):
    """A track has to wait until others have left the memory.

    Attributes:
        needed_bytes: bytes that the track needs at least, as far as it was read.
    """

    def __init__(self, needed_bytes: int) -> None:
        super().__init__()
        self.needed_bytes = needed_bytes


class Budget:
    """Bytes that the tracks of a batch may hold together. Threads share it.

    A track reserves before it reads, because only then its true size is known. If others hold so much that it does not
    fit, it gives back what it has and waits for a later part of the batch. A track that is alone may hold any size. So
    of several tracks at least one is finished, and none waits for another.

    Args:
        limit_bytes: most bytes, except for a track that is alone; None for no limit.
    """

    def __init__(self, limit_bytes: int | None) -> None:
        self._limit_bytes = limit_bytes
        self._held: dict[int, int] = {}
        self._lock = threading.Lock()

    def reserve(self, track: int, size_bytes: int) -> None:
        """Reserve more bytes for a track.

        Raises:
            PostponedError: it does not fit. The track holds nothing any more.
        """
        with self._lock:
            needed = self._held.get(track, 0) + size_bytes
            others = sum(self._held.values()) - self._held.get(track, 0)
            if self._limit_bytes is not None and others and others + needed > self._limit_bytes:
                self._held.pop(track, None)
                raise PostponedError(needed)
            self._held[track] = needed

    def release(self, track: int) -> None:
        """Give back what a track holds, because nothing came of it."""
        with self._lock:
            self._held.pop(track, None)


def first_that_fit(needs: Mapping[int, int], limit_bytes: int) -> list[int]:
    """Return the first track, and as many of the others as fit beside it.

    Args:
        needs: bytes that each waiting track needs, as far as is known, in order.
        limit_bytes: most bytes.
    """
    chosen: list[int] = []
    held = 0
    for track, needed in needs.items():
        if not chosen or held + needed <= limit_bytes:
            chosen.append(track)
            held += needed
    return chosen
