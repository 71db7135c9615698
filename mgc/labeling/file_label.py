"""The answer for one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from mgc.audio.decode import Listened
from mgc.labeling.decide import Decision


@dataclass(frozen=True)
class FileLabel:
    """A bundle's answer for one file.

    Attributes:
        genre_top: most probable genre.
        confidence: the model's probability of that genre, in (0, 1].
        top_k: most probable genres with their probabilities, in descending order.
        duration_seconds: length of the whole track.
        seconds_listened: number of seconds that were decoded.
        decoder: name of the decoder; "samples" for an array.
        damage: fault of a file that could still be decoded, or None.
        bandwidth_hz: frequency above which its windows have practically nothing, or None.
    """

    genre_top: str
    confidence: float
    top_k: tuple[tuple[str, float], ...]
    duration_seconds: float
    seconds_listened: float
    decoder: str
    damage: str | None
    bandwidth_hz: float | None

    @classmethod
    def of(cls, heard: Listened[Any], decision: Decision) -> Self:
        """Return the answer for what was heard."""
        return cls(
            decision.genre_top,
            decision.confidence,
            decision.top_k,
            heard.duration_seconds,
            heard.seconds,
            heard.decoder,
            heard.damage,
            heard.bandwidth_hz,
        )
