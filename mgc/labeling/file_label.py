"""The answer to one file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileLabel:
    """What a bundle says about one file.

    Attributes:
        genre_top: the likeliest genre.
        confidence: its probability as the model states it, in (0, 1].
        top_k: the likeliest genres with their probabilities.
        duration_seconds: length of the whole track.
        seconds_listened: how much of it was heard.
        decoder: which decoder gave the samples.
        damage: what is wrong with the file although it could be heard, or None.
    """

    genre_top: str
    confidence: float
    top_k: tuple[tuple[str, float], ...]
    duration_seconds: float
    seconds_listened: float
    decoder: str
    damage: str | None
