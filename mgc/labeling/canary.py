"""Canaries: tracks whose labels are known, heard again before a run hears anything else.

If known tracks cannot be heard, or get other answers from the model that labelled them, the fault is not in the tracks:
a mount is gone, a store refuses to answer, a worker runs other code. Then the run stops before it does harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mgc.units import format_count

CANARIES: Final = 20
"""Most tracks to hear."""

FEWEST_CANARIES: Final = 3
"""Fewest tracks that say anything. With fewer, a single damaged file would stop a night."""

ROUNDING: Final = 0.01
"""Difference of two probabilities that comes from rounding: other kernels, another number of threads, a GPU."""

MOST_FAILED: Final = 0.5
MOST_DIFFERENT: Final = 0.1
"""Share of the canaries above which a run stops. The bytes and the model are the same, so no answer should differ."""


@dataclass(frozen=True)
class Canary:
    """A track whose label is known.

    Attributes:
        track_id: id of the track.
        genre: the model's genre.
        confidence: the model's confidence in it, 0 to 1.
        comparable: whether the model in use gave this answer, and not an earlier one.
    """

    track_id: str
    genre: str
    confidence: float
    comparable: bool


@dataclass(frozen=True)
class CanaryAnswer:
    """What a canary gave this time.

    Attributes:
        probabilities: genre → probability, 0 to 1, of the most probable genres; empty if the track failed.
        error: kind of error and message; "" if the track did not fail.
    """

    probabilities: Mapping[str, float]
    error: str = ""


def refuse_canaries(canaries: Sequence[Canary], answers: Mapping[str, CanaryAnswer]) -> str | None:
    """Return why the canaries stop a run, as a clause without a full stop, or None if they do not.

    Args:
        canaries: tracks whose labels are known.
        answers: what each of them gave this time, by track id. A track without an answer failed.
    """
    if len(canaries) < FEWEST_CANARIES:
        return None
    missing = CanaryAnswer({}, "no answer")
    errors = Counter(answers.get(each.track_id, missing).error for each in canaries)
    del errors[""]
    if errors.total() > MOST_FAILED * len(canaries):
        cause, _ = errors.most_common(1)[0]
        return (
            f"{errors.total()} of {format_count(len(canaries), 'track')} with a label could not be heard again: {cause}"
        )
    comparable = [each for each in canaries if each.comparable and not answers.get(each.track_id, missing).error]
    different = [each for each in comparable if not _agrees(each, answers[each.track_id].probabilities)]
    if different and len(comparable) >= FEWEST_CANARIES and len(different) > MOST_DIFFERENT * len(comparable):
        first = different[0]
        now = answers[first.track_id].probabilities
        genre = max(now, key=lambda name: now[name])
        return (
            f"{len(different)} of {len(comparable)} tracks get another answer from the same model and the same bytes: "
            f"{first.track_id!r} was {first.genre} ({first.confidence:.3f}) and is now {genre} ({now[genre]:.3f})"
        )
    return None


def _agrees(canary: Canary, now: Mapping[str, float]) -> bool:
    """Return whether an answer is the known one, but for rounding. Two genres that are equally probable may swap."""
    best = max(now.values())
    return abs(now.get(canary.genre, 0.0) - canary.confidence) <= ROUNDING and best - canary.confidence <= ROUNDING
