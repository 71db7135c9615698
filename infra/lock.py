"""Pin the packages that pyproject.toml asks for, and all that these need in turn, as they are installed here.

`python infra/lock.py` writes requirements.lock, with the hashes of all wheels that the registry has of each version,
for any platform. `pip install --require-hashes` then takes only these. With `--check` it exits with 1 if the packages
in the file are not those that it would write, or one has no hash; that asks no registry.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

# No address of a registry stands in this repository. pip knows its own default.
from pip._internal.models.index import PyPI

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
HEAD = """\
# What mgc runs, is checked and is tested with: the dependencies in pyproject.toml and its extra `dev`, and all that
# these need, with the hashes of their wheels. For Python 3.11 on Linux, x86-64. Written by `make lock`; not to be
# edited by hand.
"""
PROJECT = "pyproject.toml"
DEV = "# Only checks and tests need what follows; an image stops here.\n"
_ANSWER_SECONDS = 60
_AT_ONCE = 8


class LockError(Exception):
    """The installed packages are not those that pyproject.toml asks for, or the file cannot be read."""


@dataclass(frozen=True)
class Pin:
    """A package of the file.

    Attributes:
        name: its normalised name.
        version: its version.
        hashes: SHA-256 of its wheels, in hexadecimal digits.
        dev: whether only checks and tests need it.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    dev: bool


def read(text: str) -> list[Pin]:
    """Return the packages of a requirements.lock, in its order.

    Raises:
        LockError: a line is no package with a version and hashes.
    """
    found = []
    for part, dev in zip(text.split(DEV, 1), (False, True), strict=False):
        for line in part.replace("\\\n", "").splitlines():
            if not line or line.startswith("#"):
                continue
            pinned, *options = line.split()
            name, equals, version = pinned.partition("==")
            hashes = tuple(option.removeprefix("--hash=sha256:") for option in options)
            if not equals or any("-" in each for each in hashes):
                raise LockError(f"{line[:80]!r} is not a package with its version and hashes")
            found.append(Pin(name, version, hashes, dev))
    return found


def asked(dev: bool) -> list[Requirement]:
    """Return the direct dependencies, those of the extra `dev` included if asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    more = project["optional-dependencies"]["dev"] if dev else []
    return [Requirement(line) for line in project["dependencies"] + more]


def pins(dev: bool) -> dict[str, str]:
    """Return name and installed version of every package that is needed, directly or through others.

    Args:
        dev: whether to count what only checks and tests need.

    Raises:
        LockError: as `needs`.
    """
    return {name: distribution(name).version for name in set().union(*needs(dev).values())}


def needs(dev: bool) -> Mapping[str, set[str]]:
    """Return which packages each package needs directly; those that pyproject.toml asks for stand under its name.

    Args:
        dev: whether to count what only checks and tests need.

    Raises:
        LockError: a package is missing, or its version is not one that was asked for.
    """
    found: dict[str, set[str]] = {}
    waiting = [(requirement, PROJECT) for requirement in asked(dev)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, by = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise LockError(f"{by} needs {requirement}, which is not installed") from None
        if not requirement.specifier.contains(package.version, prereleases=True):
            raise LockError(f"{by} needs {requirement}, and {package.version} is installed")
        found.setdefault(by, set()).add(name)
        # Each extra is followed once. The empty one stands for what the package always needs.
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in package.requires or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append((needed, name))
    return found


@cache
def registry() -> str:
    """Return the address of the registry that pip is set up for, without a slash at the end."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return (asked.stdout.strip() or PyPI.simple_url).rstrip("/")


def hashes(name: str, version: str) -> list[str]:
    """Return the SHA-256 hashes of all wheels that the registry has of a version.

    Raises:
        LockError: the registry does not answer, or has no wheel of it.
    """
    address = f"{registry()}/{name}/"
    request = urllib.request.Request(address, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            files = json.loads(answer.read())["files"]
    except (OSError, ValueError, KeyError) as error:
        raise LockError(f"the registry does not say what it has of {name} ({type(error).__name__})") from None
    found = [file["hashes"]["sha256"] for file in files if _is_wheel(file["filename"], version) and file["hashes"]]
    if not found:
        raise LockError(f"the registry has no wheel of {name} {version}")
    return sorted(found)


def _is_wheel(file: str, version: str) -> bool:
    try:
        return file.endswith(".whl") and parse_wheel_filename(file)[1] == Version(version)
    except InvalidWheelFilename:
        # Old files have names that no pip takes any more.
        return False


def main() -> int:
    """Write or check the file, and return the exit code."""
    try:
        run, every = pins(dev=False), pins(dev=True)
        found = [*sorted(run.items()), *sorted(pin for pin in every.items() if pin[0] not in run)]
        if sys.argv[1:] == ["--check"]:
            return check([f"{name}=={version}" for name, version in found])
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            entries = list(threads.map(lambda pin: entry(*pin), found))
    except LockError as error:
        print(f"requirements.lock: {error}; run `make lock`.", file=sys.stderr)
        return 1
    parts = ["".join(part) for part in (entries[: len(run)], entries[len(run) :])]
    LOCK.write_text(HEAD + DEV.join(parts), encoding="utf-8")
    print(f"{len(entries)} packages pinned in {LOCK.name}")
    return 0


def entry(name: str, version: str) -> str:
    """Return the lines of a package."""
    lines = [f"{name}=={version}", *(f"    --hash=sha256:{each}" for each in hashes(name, version))]
    return " \\\n".join(lines) + "\n"


def check(lines: list[str]) -> int:
    """Compare the file with the packages that are needed, and return the exit code."""
    found = read(LOCK.read_text(encoding="utf-8"))
    stand = [f"{pin.name}=={pin.version}" for pin in found]
    bare = [f"{pin.name}=={pin.version}" for pin in found if not pin.hashes]
    if stand == lines and not bare:
        print(f"{LOCK.name}: the {len(lines)} packages that pyproject.toml needs")
        return 0
    lacking, extra = sorted(set(lines) - set(stand)), sorted(set(stand) - set(lines))
    print(
        f"{LOCK.name}: lacks {', '.join(lacking) or 'nothing'}; has {', '.join(extra) or 'nothing'} in excess; without "
        f"a hash: {', '.join(bare) or 'nothing'}; run `make lock`.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
