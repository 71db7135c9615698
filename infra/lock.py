"""Pin the packages that pyproject.toml asks for, and all that these need in turn, as they are installed here.

`python infra/lock.py` writes requirements.lock. With `--check` it exits with 1 if the file is not what it would write.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
HEAD = """\
# What mgc runs, is checked and is tested with: the dependencies in pyproject.toml and its extra `dev`, and all that
# these need. For Python 3.11 on Linux, x86-64. Written by `make lock`; not to be edited by hand.
"""


class LockError(Exception):
    """The installed packages are not those that pyproject.toml asks for."""


def asked() -> list[Requirement]:
    """Return the direct dependencies, including those of the extra `dev`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]


def pins() -> dict[str, str]:
    """Return name and installed version of every package that is needed, directly or through others.

    Raises:
        LockError: a package is missing, or its version is not one that was asked for.
    """
    found: dict[str, str] = {}
    waiting = [(requirement, "pyproject.toml") for requirement in asked()]
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
        found[name] = package.version
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


def main() -> int:
    """Write or check the file, and return the exit code."""
    try:
        lines = [f"{name}=={version}" for name, version in sorted(pins().items())]
    except LockError as error:
        print(f"requirements.lock: {error}; run `make lock`.", file=sys.stderr)
        return 1
    if sys.argv[1:] != ["--check"]:
        LOCK.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
        print(f"{len(lines)} packages pinned in {LOCK.name}")
        return 0
    stand = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    if stand == lines:
        print(f"{LOCK.name}: the {len(lines)} packages that pyproject.toml needs")
        return 0
    lacking, extra = sorted(set(lines) - set(stand)), sorted(set(stand) - set(lines))
    print(
        f"{LOCK.name}: lacks {', '.join(lacking) or 'nothing'}; has {', '.join(extra) or 'nothing'} in excess; "
        "run `make lock`.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
