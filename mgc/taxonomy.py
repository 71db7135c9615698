"""Genres and their tree. A flat list of genres is a tree of one level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mgc.configuration import JsonObject, short_hash
from mgc.errors import ConfigError


@dataclass(frozen=True)
class Genre:
    """One genre; `parent` is the name of the genre above it, or None at the top level."""

    name: str
    parent: str | None = None


@dataclass(frozen=True)
class Taxonomy:
    """The genres that a model can answer, in the order of its logits.

    Attributes:
        genres: at least one genre, with unique names; index i is logit i.

    Raises:
        ConfigError: there is no genre, a name is empty or occurs twice, or a parent is missing or below itself.
    """

    genres: tuple[Genre, ...]

    def __post_init__(self) -> None:
        if not self.genres or not all(genre.name for genre in self.genres):
            raise ConfigError("taxonomy: it needs at least one genre, and each needs a name.")
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if repeated:
            raise ConfigError(f"taxonomy: the genre(s) {', '.join(repeated)} appear twice; keep one of each.")
        parents = {genre.name: genre.parent for genre in self.genres}
        orphans = sorted({parent for parent in parents.values() if parent is not None and parent not in parents})
        if orphans:
            raise ConfigError(
                f"taxonomy: the parent(s) {', '.join(orphans)} are not genres of it; add them, or correct the parents."
            )
        for name in self.names:
            above, steps = parents[name], 0
            while above is not None and steps < len(parents):
                above, steps = parents[above], steps + 1
            if above is not None:
                raise ConfigError(f"taxonomy: the parents of genre {name} form a circle; correct one of them.")

    @classmethod
    def flat(cls, names: Iterable[str]) -> Taxonomy:
        """Return a tree of one level, in alphabetical order."""
        return cls(tuple(Genre(name) for name in sorted(set(names))))

    @property
    def names(self) -> tuple[str, ...]:
        """Genre names by logit index."""
        return tuple(genre.name for genre in self.genres)

    def __len__(self) -> int:
        return len(self.genres)

    def index(self, name: str) -> int:
        """Return the logit index of a genre.

        Raises:
            ConfigError: the taxonomy has no genre of this name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise ConfigError(f"genre {name!r} is not in the taxonomy ({', '.join(self.names)}).") from None

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the genres and their order."""
        return short_hash(self.to_json())

    def to_json(self) -> list[JsonObject]:
        """Return a JSON-ready list of {name, parent}."""
        return [{"name": genre.name, "parent": genre.parent} for genre in self.genres]

    @classmethod
    def from_json(cls, genres: object) -> Taxonomy:
        """Read a taxonomy from the values of `to_json`.

        Raises:
            ConfigError: the value is not a list of genres, or they do not form a taxonomy.
        """
        if not isinstance(genres, list) or not all(_is_genre(genre) for genre in genres):
            raise ConfigError('taxonomy: it must be a list of {"name": text, "parent": text or null}.')
        return cls(tuple(Genre(genre["name"], genre.get("parent")) for genre in genres))


def _is_genre(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {"name", "parent"}
        and isinstance(value.get("name"), str)
        and isinstance(value.get("parent"), str | None)
    )
