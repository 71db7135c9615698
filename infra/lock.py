"""Pin the packages that pyproject.toml asks for, and all that these need in turn.

`python infra/lock.py` has uv write requirements.lock, with the hashes of their wheels: for each Python and each
processor that pyproject.toml names, whatever machine writes it. `pip install --require-hashes` then takes only these.
A version that is in the file already stays, as long as pyproject.toml allows it; arguments go to uv (`--upgrade`).
With `--check` it exits with 1 if the packages for this Python in the file are not those that are needed, in the
versions installed here, or one has no hash; that asks no registry.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
HEAD = """\
# What mgc runs, is checked and is tested with: the dependencies in pyproject.toml and its extras, but for mlflow, and
# all that these need, with the hashes of their wheels. For Linux on x86-64 and on 64-bit ARM, Python 3.11 to 3.14.
# Written by `make lock`; not to be edited by hand.
"""
PROJECT = "pyproject.toml"
DEV = "# Only checks and tests need what follows; an image stops here.\n"
RUN_EXTRA, DEV_EXTRA = "tune", "dev"
_OLDEST_PYTHON: Final = "3.11"


class LockError(Exception):
    """The lock cannot be written or read, or the installed packages are not those that pyproject.toml asks for."""


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
    """Return the packages of a requirements.lock that are for this Python, in its order.

    Raises:
        LockError: a line is no package with a version and hashes.
    """
    found = []
    for part, dev in zip(text.split(DEV, 1), (False, True), strict=False):
        for line, entry in entries(part).items():
            try:
                pin = Requirement(line)
            except InvalidRequirement:
                raise LockError(f"{line[:80]!r} is not a package with its version and hashes") from None
            hashes = tuple(each.strip(" \\\n") for each in entry.split("--hash=sha256:")[1:])
            version = str(pin.specifier)
            if not version.startswith("==") or entry.count("--") != len(hashes):
                raise LockError(f"{line[:80]!r} is not a package with its version and hashes")
            if pin.marker is None or pin.marker.evaluate():
                found.append(Pin(canonicalize_name(pin.name), version.removeprefix("=="), hashes, dev))
    return found


def entries(text: str) -> dict[str, str]:
    """Return the entries of a lock, each a requirement with its hashes, by the requirement."""
    found: dict[str, str] = {}
    for entry in text.replace("\\\n    --hash", "--hash").splitlines():
        if entry and not entry.startswith("#"):
            found[entry.partition("--hash")[0].strip()] = entry.replace("--hash", "\\\n    --hash") + "\n"
    return found


def asked(extra: str) -> list[Requirement]:
    """Return what pyproject.toml asks for, with one of its extras and those that it is made of."""
    project = tomllib.loads((ROOT / PROJECT).read_text(encoding="utf-8"))["project"]

    def all_of(lines: Iterable[str]) -> Iterator[Requirement]:
        for requirement in map(Requirement, lines):
            if requirement.name == project["name"]:
                for each in sorted(requirement.extras):
                    yield from all_of(project["optional-dependencies"][each])
            else:
                yield requirement

    return list(all_of([*project["dependencies"], f"{project['name']}[{extra}]"]))


def pins(extra: str) -> dict[str, str]:
    """Return name and installed version of every package that is needed here, directly or through others.

    Args:
        extra: extra of pyproject.toml that counts beside the dependencies.

    Raises:
        LockError: as `needs`.
    """
    return {name: distribution(name).version for name in set().union(*needs(extra).values())}


def needs(extra: str) -> Mapping[str, set[str]]:
    """Return which packages each package needs directly; those that pyproject.toml asks for stand under its name.

    Args:
        extra: extra of pyproject.toml that counts beside the dependencies.

    Raises:
        LockError: a package is missing, or its version is not one that was asked for.
    """
    found: dict[str, set[str]] = {}
    waiting = [(requirement, PROJECT) for requirement in asked(extra)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, by = waiting.pop()
        if requirement.marker is not None and by == PROJECT and not requirement.marker.evaluate():
            continue
        name = canonicalize_name(requirement.name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise LockError(f"{by} needs {requirement}, which is not installed") from None
        if not requirement.specifier.contains(package.version, prereleases=True):
            raise LockError(f"{by} needs {requirement}, and {package.version} is installed")
        found.setdefault(by, set()).add(name)
        # Each extra is followed once. The empty one stands for what the package always needs.
        for wanted in {"", *requirement.extras}:
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            for line in package.requires or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": wanted}):
                    waiting.append((needed, name))
    return found


def compiled(extra: str, before: str, options: list[str]) -> dict[str, str]:
    """Return the entries of what is needed with an extra, as uv resolves it.

    Args:
        extra: extra of pyproject.toml.
        before: lock whose versions stay.
        options: further options of `uv pip compile`.

    Raises:
        LockError: uv finds no solution, or no registry.
    """
    with tempfile.TemporaryDirectory(prefix="mgc-lock-") as folder:
        out = Path(folder) / "lock"
        out.write_text(before, encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", PROJECT, "--quiet", "--extra", extra]
        command += ["--universal", "--python-version", _OLDEST_PYTHON, "--only-binary", ":all:", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--output-file", str(out), *options]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise LockError(f"uv finds no versions that fit: {' '.join(done.stderr.split())}")
        return entries(out.read_text(encoding="utf-8"))


def write(options: list[str]) -> None:
    """Write the lock anew.

    Raises:
        LockError: see `compiled`.
    """
    every = compiled(DEV_EXTRA, LOCK.read_text(encoding="utf-8"), options)
    # The run-time packages by themselves, in the versions that the whole has.
    run = compiled(RUN_EXTRA, "".join(every.values()), [])
    rest = [lines for requirement, lines in every.items() if requirement not in run]
    LOCK.write_text(HEAD + "".join(run.values()) + DEV + "".join(rest), encoding="utf-8")
    print(f"{len(run) + len(rest)} packages pinned in {LOCK.name}")


def check() -> None:
    """Compare the part of the lock that is for this Python with the packages that are needed.

    Raises:
        LockError: they differ, or an entry has no hash.
    """
    found = read(LOCK.read_text(encoding="utf-8"))
    for pin in found:
        if not pin.hashes:
            raise LockError(f"{pin.name} {pin.version} has no hash")
    for extra, dev in ((RUN_EXTRA, (False,)), (DEV_EXTRA, (False, True))):
        stand = {(pin.name, pin.version) for pin in found if pin.dev in dev}
        wanted = set(pins(extra).items())
        if stand != wanted:
            lacking, excess = wanted - stand, stand - wanted
            raise LockError(f"for [{extra}] it lacks {_said(lacking)}, and has {_said(excess)} in excess")
    print(f"{LOCK.name}: the {len(found)} packages that {PROJECT} needs")


def _said(found: set[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(found)) or "nothing"


def main() -> int:
    """Write or check the file, and return the exit code."""
    try:
        check() if sys.argv[1:] == ["--check"] else write(sys.argv[1:])
    except LockError as error:
        print(f"requirements.lock: {error}; run `make lock`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
