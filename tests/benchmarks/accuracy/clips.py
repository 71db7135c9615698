"""Labelled clips in one folder: the genre stands before the first dot of the file name, as in GTZAN."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips with their genres.

    Attributes:
        paths: files, in order of name.
        genres: names, in alphabetical order.
        genre_N: genre of each file.
    """

    paths: tuple[Path, ...]
    genres: tuple[str, ...]
    genre_N: NDArray[np.int64]  # noqa: N815  (axes in capitals)


def find_clips(folder: Path) -> Clips:
    """Return the clips of a folder."""
    paths = tuple(sorted(path for path in folder.iterdir() if path.is_file() and "." in path.stem))
    names = [path.name.partition(".")[0] for path in paths]
    genres = tuple(sorted(set(names)))
    return Clips(paths, genres, np.array([genres.index(name) for name in names], np.int64))
