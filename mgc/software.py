"""The software of a process: version and code of mgc, and versions of what it computes with.

The answers of two processes are the same only if these are. All facts come from files, so nothing is imported for them.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mgc.version import __version__

_CODE: Final = ("cluster", "mgc")
"""Packages whose source code decides what a worker computes."""

_LIBRARIES: Final = (
    "av",
    "deltalake",
    "librosa",
    "numpy",
    "onnxruntime",
    "pyarrow",
    "ray",
    "scipy",
    "soundfile",
    "soxr",
    "torch",
)
"""Distributions whose version can change what a worker computes or writes."""

_HASH_CHARACTERS: Final = 12


@dataclass(frozen=True)
class Software:
    """The software of one process.

    Attributes:
        mgc: version of mgc.
        code: hash of mgc's source code, 12 characters; empty if the code is not in files.
        versions: pairs of a name and a version: `python` (without its last number) and each library that is installed.
            A build such as `+cpu` does not count, because a driver without a GPU may have workers with one.
    """

    mgc: str
    code: str
    versions: tuple[tuple[str, str], ...]

    @classmethod
    def here(cls) -> Software:
        """Return the software of this process. It is looked up once."""
        return _here()

    def difference(self, driver: Software) -> tuple[str, str, str] | None:
        """Return the first fact in which a worker differs from its driver; None if none.

        A library that the driver lacks is no difference: the driver of a light installation has set up the run without
        it, so nothing in the run uses it.

        Returns:
            The fact's name, its value here, and its value at the driver.
        """
        for name in ("mgc", "code"):
            mine, theirs = getattr(self, name), getattr(driver, name)
            if mine != theirs:
                return name, mine, theirs
        here = dict(self.versions)
        for name, theirs in sorted(driver.versions):
            if here.get(name) != theirs:
                return name, here.get(name, "missing"), theirs
        return None

    def __str__(self) -> str:
        """Return version and code, such as `mgc 0.1.0 (code 1a2b3c4d5e6f)`."""
        return f"mgc {self.mgc} (code {self.code or 'unknown'})"


@functools.cache
def _here() -> Software:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = [(name, _version(name)) for name in _LIBRARIES]
    return Software(__version__, hash_code(_folders()), (("python", python), *(pair for pair in found if pair[1])))


def _version(library: str) -> str:
    """Return the version of an installed distribution without its build, or ""."""
    try:
        return version(library).partition("+")[0]
    except PackageNotFoundError:
        return ""


def _folders() -> list[Path]:
    """Return the folders from which this process imports mgc's packages."""
    specs = [find_spec(name) for name in _CODE]
    return [Path(place) for spec in specs if spec for place in spec.submodule_search_locations or () if place]


def hash_code(folders: list[Path]) -> str:
    """Return a hash of the Python files in some folders: their names below the folder, and their content.

    Returns:
        12 characters; empty if there is no Python file.
    """
    digest, files = hashlib.sha256(), 0
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{folder.name}/{file.relative_to(folder).as_posix()}:{len(content)}\n".encode())
            digest.update(content)
            files += 1
    return digest.hexdigest()[:_HASH_CHARACTERS] if files else ""
