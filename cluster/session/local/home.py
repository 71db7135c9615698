"""Do without a home directory: a container's user often has none, or may not write there."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from cluster.session import ray_internals

_CACHES: Final = ("NUMBA_CACHE_DIR", "MPLCONFIGDIR")
"""Variables that say where librosa's compiler and matplotlib keep what they would keep at home."""


def do_without_home() -> None:
    """Give a local Ray and its workers other places for what they keep in the home directory, if it is not usable."""
    ray_internals.supply_token()
    if _is_usable() or all(name in os.environ for name in _CACHES):
        return
    folder = tempfile.mkdtemp(prefix="mgc-home-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in _CACHES:
        os.environ.setdefault(name, folder)


def _is_usable() -> bool:
    try:
        return os.access(Path.home(), os.W_OK | os.X_OK)
    except RuntimeError:
        return False
