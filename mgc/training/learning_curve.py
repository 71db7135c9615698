"""How many more labels a weak genre would need, from its F1 with a part of the labels.

The error falls with the number of labels about as a power law (Hestness et al., Deep learning scaling is predictable,
empirically, 2017): error = a n^-b. A line through the logarithms of a few points says where it would reach a goal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

GOAL_F1: Final = 0.7
"""A genre with a lower F1 is weak."""

SLOWEST: Final = 0.1
"""Exponent b below which more labels hardly help: ten times as many leave four fifths of the error."""

FARTHEST: Final = 100.0
"""A forecast of more than this many times the labels is none."""


@dataclass(frozen=True)
class Need:
    """What a genre would need to reach a goal.

    Attributes:
        genre: name of the genre.
        labels: number of labels that it has.
        f1: its F1 with these, 0 to 1.
        more: labels that it would need besides; 0 if it is at the goal, None if more labels would hardly help or if the
            points do not say.
    """

    genre: str
    labels: int
    f1: float
    more: int | None


def needs_of(genre: str, labels: int, points: Sequence[tuple[float, float]], goal_f1: float = GOAL_F1) -> Need:
    """Return what a genre needs.

    Args:
        genre: name of the genre.
        labels: number of labels that it has.
        points: number of training labels and F1 reached with them, in ascending order; at least one.
        goal_f1: the goal.
    """
    f1 = points[-1][1]
    if f1 >= goal_f1:
        return Need(genre, labels, f1, 0)
    numbers = np.array([max(count, 1.0) for count, _ in points])
    errors = np.array([max(1 - reached, 1e-3) for _, reached in points])
    if len(np.unique(numbers)) < 2:
        return Need(genre, labels, f1, None)
    slope, _ = np.polyfit(np.log(numbers), np.log(errors), 1)
    if -slope < SLOWEST:
        return Need(genre, labels, f1, None)
    # From the last point on, since that is what was reached.
    times = ((1 - f1) / (1 - goal_f1)) ** (1 / -slope)
    return Need(genre, labels, f1, None if times > FARTHEST else math.ceil(labels * (times - 1)))
