"""The bundle that is shipped with mgc, as an alternative to a URI. The command line imports it, so it must be light."""

from __future__ import annotations

from enum import Enum
from pathlib import Path


class ShippedBundle(Enum):
    """The bundle that is part of mgc. Its value is the name that people type."""

    DEFAULT = "default"

    def __str__(self) -> str:
        return self.value

    @property
    def directory(self) -> Path:
        """Directory of its files."""
        return Path(__file__).parent / "default_bundle"
