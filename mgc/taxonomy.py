"""Genres and their tree. A flat list of genres is a tree of one level."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mgc.errors import ConfigError


@dataclass(frozen=True)
class Genre:
    """One genre; `parent` is the name of the genre above it, or None at the top level."""

    name: str
    parent: str | None = None


@dataclass(frozen=True)
class Taxonomy:
    """The genres a model can answer, in the order of its logits.

    Attributes:
        genres: unique by name; index i is logit i.
    """

    genres: tuple[Genre, ...]

    def __post_init__(self) -> None:
        names = [genre.name for genre in self.genres]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(f"taxonomy: the genre(s) {', '.join(repeated)} stand in it twice.")
        known = set(names)
        orphans = sorted({g.parent for g in self.genres if g.parent is not None and g.parent not in known})
        if orphans:
            raise ConfigError(f"taxonomy: the parent(s) {', '.join(orphans)} are no genres of it.")

    @classmethod
    def flat(cls, names: Iterable[str]) -> Taxonomy:
        """A tree of one level, in alphabetical order."""
        return cls(tuple(Genre(name) for name in sorted(set(names))))

    @property
    def names(self) -> tuple[str, ...]:
        """Genre names by logit index."""
        return tuple(genre.name for genre in self.genres)

    def __len__(self) -> int:
        return len(self.genres)

    def index(self, name: str) -> int:
        """The logit index of a genre.

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
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> list[dict[str, Any]]:
        """JSON-ready list of {name, parent}."""
        return [{"name": genre.name, "parent": genre.parent} for genre in self.genres]

    @classmethod
    def from_json(cls, genres: list[dict[str, Any]]) -> Taxonomy:
        """Inverse of `to_json`."""
        return cls(tuple(Genre(str(g["name"]), g.get("parent")) for g in genres))
