"""mgc gives genre labels to whole music catalogs.

From Python, three lines label a file:

    import mgc
    bundle = mgc.load_bundle()
    print(bundle.label("song.mp3"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mgc.version import __version__

if TYPE_CHECKING:
    from cluster.labels.readers.frame import read_labels
    from mgc.bundle import Bundle, load_bundle

__all__ = ["Bundle", "__version__", "load_bundle", "read_labels"]


def __getattr__(name: str) -> Any:
    """Import PyTorch and the storage clients only when they are used, so that `mgc --help` stays quick."""
    if name in ("Bundle", "load_bundle"):
        from mgc import bundle

        return getattr(bundle, name)
    if name == "read_labels":
        # The package's front door, and the one import that goes up a floor (infra/adr/0005-front-door.md).
        from cluster.labels.readers.frame import read_labels

        return read_labels
    raise AttributeError(f"module 'mgc' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted(__all__)
