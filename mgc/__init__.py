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
    from mgc.bundle import Bundle, load_bundle

_BUNDLE = ("Bundle", "load_bundle")
__all__ = ["Bundle", "__version__", "load_bundle"]


def __getattr__(name: str) -> Any:
    """Import PyTorch only when a bundle is used, so that `mgc --help` stays quick."""
    if name in _BUNDLE:
        from mgc import bundle

        return getattr(bundle, name)
    raise AttributeError(f"module 'mgc' has no attribute {name!r}")
