"""Accuracy by amount of training data: many-, medium- and few-shot genres.

The groups follow Liu et al. 2019 ("Large-Scale Long-Tailed Recognition in an Open World") and Kang et al. 2020: genres
with more than 100, with 20 to 100, and with fewer than 20 training samples. Axes: G genres, always in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mgc.configuration import JsonObject, to_json
from mgc.errors import ConfigError

GROUPS: Final = ("many", "medium", "few")

LIU_THRESHOLDS: Final = (100, 20)
"""Thresholds: many-shot genres have more than the first, few-shot genres fewer than the second (Liu et al. 2019)."""


@dataclass(frozen=True)
class ShotScore:
    """One group of genres.

    Attributes:
        group: one of `GROUPS`.
        genres: names, from the most to the fewest training samples; may be empty.
        training_counts: training samples of each of these genres.
        tracks: number of tracks of these genres in the scored split.
        accuracy: mean over the genres of the share of their tracks answered correctly, 0 to 1. Genres without a track
            in the split are left out. On a balanced split it is the share of the group's tracks. None without tracks.
    """

    group: str
    genres: tuple[str, ...]
    training_counts: tuple[int, ...]
    tracks: int
    accuracy: float | None


def shot_scores(
    confusion_GG: Sequence[Sequence[int]] | np.ndarray,
    genres: Sequence[str],
    training_counts: Sequence[int],
    thresholds: tuple[int, int] | None = None,
) -> tuple[ShotScore, ShotScore, ShotScore]:
    """Return the scores of the three groups, many-shot first.

    Args:
        confusion_GG: counts of tracks, true genres in rows, answers in columns.
        genres: names.
        training_counts: training samples of each genre.
        thresholds: many-shot genres have more samples than the first, few-shot genres fewer than the second;
            `LIU_THRESHOLDS` are those of the literature. None divides the genres into thirds by falling count, and by
            name where counts are equal. If their number is not a multiple of three, the first groups have one more.

    Raises:
        ConfigError: the thresholds are not in falling order.
        ValueError: the three do not have the same number of genres.
    """
    table_GG = np.asarray(confusion_GG, dtype=np.int64)
    if table_GG.shape != (len(genres), len(genres)) or len(training_counts) != len(genres):
        raise ValueError(
            f"a confusion of shape {table_GG.shape}, {len(genres)} genres and {len(training_counts)} counts do not fit"
        )
    order = sorted(range(len(genres)), key=lambda g: (-training_counts[g], genres[g]))
    if thresholds is None:
        members = [part.tolist() for part in np.array_split(np.array(order, dtype=np.int64), 3)]
    else:
        many, few = thresholds
        if many < few:
            raise ConfigError(
                f"shots: thresholds {many} and {few}; that of many-shot genres must be the larger one and come first."
            )
        members = [
            [g for g in order if training_counts[g] > many],
            [g for g in order if few <= training_counts[g] <= many],
            [g for g in order if training_counts[g] < few],
        ]
    support_G, right_G = table_GG.sum(axis=1), table_GG.diagonal()
    scores = []
    for group, inside in zip(GROUPS, members, strict=True):
        shares = [right_G[g] / support_G[g] for g in inside if support_G[g]]
        scores.append(
            ShotScore(
                group=group,
                genres=tuple(genres[g] for g in inside),
                training_counts=tuple(int(training_counts[g]) for g in inside),
                tracks=int(support_G[inside].sum()),
                accuracy=float(np.mean(shares)) if shares else None,
            )
        )
    return scores[0], scores[1], scores[2]


def shots_to_json(scores: Sequence[ShotScore]) -> list[JsonObject]:
    """Return JSON-ready values: one object per group, with the fields of `ShotScore`."""
    return [to_json(score) for score in scores]
