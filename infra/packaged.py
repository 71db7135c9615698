"""Check that the image gets what pyproject.toml packages, and that files which run or name it give its version."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from infra import dockerfile
from infra.checkers import ROOT
from mgc.version import __version__


def image(folder: Path) -> list[str]:
    """Check the Dockerfile and the .dockerignore of a folder against pyproject.toml.

    Returns:
        A line for each fault, none if all is well.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {pattern.removesuffix("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    steps = dockerfile.steps(folder / dockerfile.NAME)
    copies = [dockerfile.copied(rest) for word, rest in steps if word == "COPY"]
    copied = {source for stage, sources, _ in copies if not stage for source in sources}
    ignore = (folder / f"{dockerfile.NAME}.dockerignore").read_text(encoding="utf-8")
    sent = set(re.findall(r"^!(.+)$", ignore, re.MULTILINE))
    run = " ".join(rest for word, rest in steps if word == "RUN")
    imported = set(re.findall(r"'(\w+)'", " ".join(re.findall(r"for package in \((.+?)\)", run))))
    wrong = [f"Dockerfile: no COPY of the package {name}" for name in sorted(packages - copied)]
    wrong += [f"Dockerfile: the build does not import the package {name}" for name in sorted(packages - imported)]
    wrong += [f".dockerignore: !{name} is missing, which the Dockerfile copies" for name in sorted(copied - sent)]
    wrong += [f".dockerignore: !{name} is sent, but copied nowhere" for name in sorted(sent - copied)]
    return wrong + _left_behind(packages, project)


def image_name(name: str) -> Iterator[str]:
    """Yield what is wrong with the name of an image that a file runs.

    A tag names this mgc. Of one that moves, a node that has an older image would keep that one.
    """
    if not re.search(rf":{re.escape(__version__)}-(cpu|gpu)$|@sha256:[0-9a-f]{{64}}$", name):
        yield f"image {name} is not that of mgc {__version__}: write mgc:{__version__}-cpu or -gpu"


def images_named(file: Path) -> list[str]:
    """Check the images of mgc that a text names, in its commands and its comments.

    Returns:
        A line for each name with another version, none if all is well.
    """
    names = re.findall(r"\bmgc:\w[\w.-]*\b", file.read_text(encoding="utf-8"))
    return [each for name in dict.fromkeys(names) for each in image_name(name)]


def _left_behind(packages: set[str], project: Mapping[str, Any]) -> list[str]:
    """Return a line for each file beside the code that `pip install` would leave out."""
    data: Mapping[str, list[str]] = project["tool"]["setuptools"]["package-data"]
    files = [
        file.relative_to(ROOT / name)
        for name in sorted(packages)
        for file in sorted((ROOT / name).rglob("*"))
        if file.is_file()
        and file.suffix not in (".py", ".pyc")
        and not any(fnmatch(str(file.relative_to(ROOT / name)), pattern) for pattern in data.get(name, ()))
    ]
    return [f"pyproject.toml: package-data does not name {file}" for file in files]
