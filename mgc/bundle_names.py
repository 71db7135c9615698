"""Bundles that are known by a name: the one shipped with mgc, and public models once `mgc pull` has fetched them.

A name stands where the URI of a bundle may stand. The command line imports this, so it must be light.
"""

from __future__ import annotations

import contextlib
from enum import StrEnum
from pathlib import Path
from typing import Final

import platformdirs

LAST_FILE: Final = "experiment.json"
"""File of a bundle that is written last: a bundle that has it is complete."""


class BundleName(StrEnum):
    """Name of a bundle, as people type it."""

    DEFAULT = "default"
    """The best of those that are there."""

    SHIPPED = "shipped"
    """The bundle that is part of mgc."""

    MN01 = "mn01"
    MN02 = "mn02"
    MN04 = "mn04"
    MN05 = "mn05"
    MN10 = "mn10"
    MUSICNN = "musicnn"

    @classmethod
    def of(cls, text: str) -> BundleName | None:
        """Return the name that a text is; None for any other text, such as a path."""
        return cls(text) if text in _TEXTS else None

    @property
    def is_public(self) -> bool:
        """Whether this is a model that others published, which `mgc pull` makes a bundle of."""
        return self not in (BundleName.DEFAULT, BundleName.SHIPPED)

    @property
    def resolved(self) -> BundleName:
        """The bundle that the name stands for now: `default` is the best of those that are there."""
        if self is not BundleName.DEFAULT:
            return self
        return next((name for name in BEST_FIRST if name.is_there), BundleName.SHIPPED)

    @property
    def directory(self) -> Path | None:
        """Folder of its files, which may not be there yet; None if the user has no folder for caches."""
        name = self.resolved
        if name is BundleName.SHIPPED:
            return Path(__file__).parent / "default_bundle"
        cache = cache_folder()
        return None if cache is None else cache / "bundles" / name.value

    @property
    def is_there(self) -> bool:
        """Whether the bundle is on this machine."""
        directory = self.directory
        with contextlib.suppress(OSError):
            return directory is not None and (directory / LAST_FILE).is_file()
        return False


BEST_FIRST: Final = (BundleName.MN04, BundleName.MUSICNN)
"""Public models that `default` prefers to the shipped bundle, the best first."""

_TEXTS: Final = frozenset(name.value for name in BundleName)


def cache_folder() -> Path | None:
    """Return mgc's folder in the user's cache, which may not be there yet; None if the user has no home directory."""
    try:
        folder = platformdirs.user_cache_path("mgc")
    except RuntimeError:
        return None
    # Older versions leave the tilde as it is.
    return folder if folder.is_absolute() else None
