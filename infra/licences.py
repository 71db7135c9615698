"""Say under which licence each package of the lock is, and refuse one that nobody has looked at.

`python -m infra.licences` (part of `make check`) exits with 1 if the licence of a package is unknown or on neither list
below, or if docs/licences.md does not name a package whose licence asks something of whoever passes on an image.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from license_expression import ExpressionError, Licensing, get_spdx_licensing

from infra import lock

PAGE: Final = lock.ROOT / "docs" / "licences.md"

PERMISSIVE: Final = frozenset(
    {
        *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0"),
        *("CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Zlib"),
        # GCC's libraries for programs that GCC compiled: the exception takes the copyleft away.
        "GPL-3.0-or-later WITH GCC-exception-3.1",
    }
)
"""Licences that ask for their text and the names of authors, no more."""

NAMED: Final = frozenset(
    {
        *("GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "LGPL-2.1-or-later", "LGPL-3.0-or-later"),
        *("MPL-2.0", "LicenseRef-NVIDIA-Proprietary"),
    }
)
"""Licences that ask for more. docs/licences.md must name each package of an image that has one."""

_NVIDIA: Final = "LicenseRef-NVIDIA-Proprietary"

_SPELLINGS: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "GPL-3.0": "GPL-3.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": _NVIDIA,
    "Python Software Foundation License": "PSF-2.0",
}
"""What metadata says in place of an SPDX expression. "BSD" is not here, because it does not say which."""

CONCLUDED: Final = {
    # The wheel carries shared libraries under licences of their own (*.libs, torch/lib, _soundfile_data).
    "av": "BSD-3-Clause AND LGPL-3.0-or-later AND GPL-2.0-or-later",
    "numpy": "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0 AND GPL-3.0-or-later WITH GCC-exception-3.1"
    " AND LGPL-2.1-or-later",
    "scikit-learn": "BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1",
    "scipy": "BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1 AND LGPL-2.1-or-later",
    "soundfile": "BSD-3-Clause AND LGPL-2.1-or-later",
    "torch": "BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1",
    # It carries NVIDIA's assembler.
    "triton": f"MIT AND {_NVIDIA}",
    # The metadata says nothing, or "BSD"; the text in the package, or of what the package stands for, says more.
    "contourpy": "BSD-3-Clause",
    "cuda-toolkit": _NVIDIA,
    "cycler": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "numba": "BSD-2-Clause",
    "pyasn1-modules": "BSD-2-Clause",
    "python-dateutil": "Apache-2.0 AND BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "torchaudio": "BSD-2-Clause",
    "colorama": "BSD-3-Clause",
    "cronsim": "BSD-3-Clause",
    "nodeenv": "BSD-3-Clause",
    "promql-parser": "MIT",
}
"""Licences that somebody read in the package, where its metadata lacks something. They go before what it declares."""

_TEXT: Final = re.compile(
    r"^(licen[cs]e|copying|notice|third.?party)[^/]*(?<!\.py)(?<!\.pyc)(?<!\.json)(?<!\.so)$", re.I
)


@dataclass(frozen=True)
class Licence:
    """The licence of a package.

    Attributes:
        expression: SPDX expression; "" if nothing says it.
        declared: whether the package's metadata says it, rather than `CONCLUDED`.
    """

    expression: str
    declared: bool


def licence(name: str) -> Licence:
    """Return the licence of an installed package."""
    if name in CONCLUDED:
        return Licence(CONCLUDED[name], declared=False)
    return Licence(next(_declared(distribution(name)), ""), declared=True)


def symbols(expression: str) -> list[frozenset[str]]:
    """Return the ways to meet an SPDX expression: for each of its alternatives, the licences that hold together.

    Raises:
        ValueError: it is no SPDX expression.
    """
    licensing = _licensing()
    try:
        parsed = licensing.parse(expression)
        # The outermost operator is OR then, and no other below is.
        ways = licensing.dnf(parsed) if parsed is not None else None
    except ExpressionError as error:
        raise ValueError(f"{expression!r} is no SPDX expression ({error})") from None
    if ways is None:
        raise ValueError("nothing says its licence")
    each = ways.args if isinstance(ways, licensing.OR) else (ways,)
    return [frozenset(literal.render() for literal in way.literals) for way in each]


def faults(pins: list[lock.Pin], page: str) -> list[str]:
    """Return a line for each package whose licence is unknown, on no list, or missing from a page.

    Args:
        pins: packages, which must be installed.
        page: text of docs/licences.md.
    """
    wrong = []
    for pin in pins:
        try:
            ways = symbols(licence(pin.name).expression)
        except ValueError as error:
            wrong.append(f"{pin.name} {pin.version}: {error}; read its text, and add it to CONCLUDED")
            continue
        if any(way <= PERMISSIVE for way in ways):
            continue
        strange = min((way - PERMISSIVE - NAMED for way in ways), key=len)
        if strange:
            wrong.append(f"{pin.name} {pin.version}: {', '.join(sorted(strange))} is on no list; read it, and add it")
        elif not pin.dev and f"`{pin.name}`" not in page:
            wrong.append(f"{pin.name} {pin.version}: docs/licences.md does not name it, and its licence asks for more")
    return wrong


def texts(name: str) -> list[tuple[str, str]]:
    """Return path and text of each file of an installed package that looks like a licence or a notice."""
    files = [file for file in distribution(name).files or () if _TEXT.match(file.name)]
    found = [(str(file), Path(file.locate())) for file in sorted(files)]
    return [(path, place.read_text(encoding="utf-8", errors="replace").strip()) for path, place in found]


@cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


def _declared(package: Distribution) -> Iterator[str]:
    """Yield what the metadata says, what is most precise first."""
    metadata = package.metadata
    expressions = metadata.get_all("License-Expression") or []
    classifiers = [each for each in metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    for said in [*expressions, *(metadata.get_all("License") or []), *(each.split(" :: ")[-1] for each in classifiers)]:
        expression = _SPELLINGS.get(said, said)
        try:
            ways = symbols(expression)
        except ValueError:
            continue
        if said in expressions or all(way <= PERMISSIVE | NAMED for way in ways):
            yield expression


def main() -> None:
    """Check all packages of the lock, and exit with 1 if there is a fault."""
    pins = lock.read(lock.LOCK.read_text(encoding="utf-8"))
    wrong = faults(pins, PAGE.read_text(encoding="utf-8"))
    for line in wrong:
        print(f"licences: {line}", file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(f"licences: {len(pins)} packages, all known")


if __name__ == "__main__":
    main()
