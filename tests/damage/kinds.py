"""All kinds of files, and any number of files of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from tests.damage import channels, counts, glued, junk, silent, truncated
from tests.damage.draw import Kind
from tests.damage.generated import Generated

KINDS: Final[Mapping[str, Kind]] = {
    **channels.KINDS,
    **glued.KINDS,
    **counts.KINDS,
    **junk.KINDS,
    **truncated.KINDS,
    **silent.KINDS,
}


def generate(kind: str, seed: int) -> Generated:
    """Return a file of a kind. It depends on the kind and the seed only."""
    return KINDS[kind](np.random.default_rng([seed, *kind.encode()]))


def generate_files(count: int, seed: int) -> Iterator[tuple[int, Generated]]:
    """Yield so many files with the seed of each, the kinds in turn."""
    names = list(KINDS)
    for number in range(count):
        one = seed + number // len(names)
        yield one, generate(names[number % len(names)], one)
