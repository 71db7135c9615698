"""Which jobs need an extra of pyproject.toml, and whether it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from mgc.errors import ConfigError

PACKAGES: Final = {
    "train": ("librosa", "scipy", "sklearn", "tensorboardX", "torchaudio"),
    "tune": ("librosa", "scipy", "sklearn", "tensorboardX", "torchaudio", "optuna"),
}
"""Extras with the packages that they bring, as Python imports them."""

JOBS: Final = {
    **dict.fromkeys(("train", "evaluate", "compare", "compare-balance", "ensemble", "learn", "demo"), "train"),
    "tune": "tune",
}
"""Jobs with the extra that they need. The others run without any."""


def require(job: str) -> None:
    """Check that what a job needs is installed, before it works for an hour.

    Raises:
        ConfigError: an extra is missing.
    """
    extra = JOBS.get(job)
    missing = [] if extra is None else [name for name in PACKAGES[extra] if find_spec(name) is None]
    if missing:
        raise ConfigError(f"mgc {job} needs {', '.join(missing)}, not installed here: pip install 'mgc[{extra}]'.")
