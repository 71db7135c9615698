"""A deliberately unbalanced subset of a balanced corpus, to compare what helps rare genres where the truth is known.

It follows the exponential profile of Cui et al. 2019 and Cao et al. 2019 (long-tailed CIFAR): with genres 0 … C-1 from
the most to the least frequent, n_c = n_max · ratio^(-c / (C-1)). So the first has `ratio` times the tracks of the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mgc.datasets.splits import place
from mgc.errors import ConfigError


def profile(counts: Mapping[str, int], ratio: float) -> dict[str, int]:
    """Return how many tracks of each genre to keep: at least 1, and never more than there are.

    Genres are ordered by falling count, and by name where counts are equal. n_max is the count of the first. n_c is
    rounded to the nearest whole number.

    Args:
        counts: tracks of each genre, all greater than zero.
        ratio: ratio of the first genre's tracks to the last one's, at least 1; 1 keeps them all.

    Raises:
        ConfigError: the ratio is below 1, or a genre has no track.
    """
    if not ratio >= 1:
        raise ConfigError(f"long tail: the ratio is {ratio:g}; it must be at least 1, for example 100.")
    if not counts or min(counts.values()) < 1:
        raise ConfigError("long tail: some genre has no track to keep; leave it out of the counts.")
    order = sorted(counts, key=lambda genre: (-counts[genre], genre))
    largest, last = counts[order[0]], max(len(order) - 1, 1)
    wanted = {genre: round(largest * ratio ** (-rank / last)) for rank, genre in enumerate(order)}
    return {genre: min(counts[genre], max(1, number)) for genre, number in wanted.items()}


def thin(genres: Mapping[str, str], ratio: float, seed: int = 0) -> set[str]:
    """Return the tracks of a long-tailed subset.

    The tracks of each genre with the smallest hashes are kept. The result is the same on every machine and for any
    order of the input. The subset of a larger ratio is part of the subset of a smaller one.

    Args:
        genres: genre of each training track, by track id.
        ratio: see `profile`.
        seed: another seed keeps other tracks.

    Raises:
        ConfigError: see `profile`.
    """
    kept = profile(Counter(genres.values()), ratio)
    chosen: set[str] = set()
    for genre, number in kept.items():
        tracks = (track for track, its_genre in genres.items() if its_genre == genre)
        chosen.update(sorted(tracks, key=lambda track: (place(track, seed), track))[:number])
    return chosen


def notice(ratio: float, kept: int, tracks: int) -> str:
    """Return the sentence that goes with every figure made from such a subset."""
    return (
        f"Unbalanced on purpose: {kept} of {tracks} training tracks are left, an exponential profile of {ratio:g} to 1 "
        "over the genres. Validation and test are as they were."
    )
