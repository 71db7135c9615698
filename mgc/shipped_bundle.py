"""The bundle that is shipped with mgc, as a place beside URIs. Imports nothing heavy: command lines name it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path


class ShippedBundle(Enum):
    """The bundle that is part of the program: its value is the word by which people ask for it."""

    DEFAULT = "default"

    def __str__(self) -> str:
        return self.value

    @property
    def directory(self) -> Path:
        """Where its files lie."""
        return Path(__file__).parent / "default_bundle"
