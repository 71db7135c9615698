"""An unbalanced subset of a balanced corpus, on purpose: to compare what helps rare genres where the truth is known.

The exponential profile of Cui et al. 2019 and Cao et al. 2019 (long-tailed CIFAR): with genres 0 … C-1 from the most
to the least frequent, n_c = n_max · ratio^(-c / (C-1)), so the first has `ratio` times the tracks of the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mgc.datasets.splits import place
from mgc.errors import ConfigError


def profile(counts: Mapping[str, int], ratio: float) -> dict[str, int]:
    """How many tracks of each genre are kept: 1 at least, and never more than there are.

    Genres are ordered by falling count, those of equal count by name. n_max is the count of the first; n_c is rounded
    to the nearest whole number.

    Args:
        counts: tracks of each genre, all greater than zero.
        ratio: of the first genre's tracks to the last one's, 1 at least; 1 keeps them all.

    Raises:
        ConfigError: the ratio is below 1, or a genre has no track.
    """
    if not ratio >= 1:
        raise ConfigError(f"long tail: the ratio is {ratio:g}; it is 1 at least, for example 100.")
    if not counts or min(counts.values()) < 1:
        raise ConfigError("long tail: there is no track to keep of some genre.")
    order = sorted(counts, key=lambda genre: (-counts[genre], genre))
    largest, last = counts[order[0]], max(len(order) - 1, 1)
    wanted = {genre: round(largest * ratio ** (-rank / last)) for rank, genre in enumerate(order)}
    return {genre: min(counts[genre], max(1, number)) for genre, number in wanted.items()}


def thin(genres: Mapping[str, str], ratio: float, seed: int = 0) -> set[str]:
    """The tracks of a long-tailed subset.

    Of each genre those come first whose hash is least: the same on every machine and in whatever order they are given;
    a subset of a larger ratio lies within that of a smaller one.

    Args:
        genres: of each training track, by its id.
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
    """The sentence that goes with every figure made from such a subset."""
    return (
        f"Unbalanced on purpose: {kept} of {tracks} training tracks are left, an exponential profile of {ratio:g} to 1 "
        "over the genres. Validation and test are as they were."
    )
