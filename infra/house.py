"""Measure how the code is laid out, and check the limits of CONTRIBUTING.md.

`python -m infra.house [--root FOLDER]` prints the measures as JSON, and exits with 1 if a limit is exceeded. FOLDER may
be another checkout, to compare with.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("mgc", "cluster", "tune", "pipelines")
MOST_LINES: Final = 400
MOST_MODULES: Final = 16
"""Modules side by side in a folder, without its `__init__`."""

FREE: Final = frozenset({"pipelines"})
"""Folders that may hold more: they have a module for each job."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(root: Path, packages: tuple[str, ...]) -> list[Path]:
    """Return the Python files of some packages, relative to `root`."""
    return sorted(path.relative_to(root) for package in packages for path in Path(root, package).rglob("*.py"))


def functions(tree: ast.Module) -> Iterator[Function]:
    """Yield every function and method."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def any_in_signature(function: Function) -> int:
    """Count `Any` in the annotations of a function's parameters and of its return value."""
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    annotations = [each.annotation for each in parameters if each is not None] + [function.returns]
    names = (node for each in annotations if each is not None for node in ast.walk(each))
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in names)


def arrows(root: Path, paths: list[Path]) -> set[tuple[str, str]]:
    """Return pairs of folders: a module of the first imports a module of the second."""
    known = {".".join(path.with_suffix("").parts) for path in paths}
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(Path(root, path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
            else:
                continue
            for name in known.intersection(names):
                target = name.rpartition(".")[0]
                here = ".".join(path.parent.parts)
                if target != here:
                    found.add((here, target))
    return found


def measure(root: Path) -> dict[str, Any]:
    """Return the measures of a checkout as JSON values."""
    paths = modules(root, PACKAGES)
    everything = modules(root, (*PACKAGES, "tests", "infra"))
    folders = Counter(str(path.parent) for path in everything if path.name != "__init__.py")
    lines = {str(path): len(Path(root, path).read_text(encoding="utf-8").splitlines()) for path in everything}
    longest: list[tuple[int, str]] = []
    signatures = 0
    for path in paths:
        for function in functions(ast.parse(Path(root, path).read_text(encoding="utf-8"))):
            signatures += any_in_signature(function)
            length = (function.end_lineno or function.lineno) - function.lineno + 1
            longest.append((length, f"{path}:{function.name}"))
    return {
        "modules": len(paths),
        "fullest_folders": folders.most_common(4),
        "levels": max(len(path.parts) for path in paths),
        "arrows_between_folders": len(arrows(root, paths)),
        "longest_functions": sorted(longest, reverse=True)[:4],
        "functions_over_60_lines": sum(length > 60 for length, _ in longest),
        "any_in_signatures": signatures,
        "longest_modules": sorted(((count, name) for name, count in lines.items()), reverse=True)[:4],
        "readme_lines": len(Path(root, "README.md").read_text(encoding="utf-8").splitlines()),
        "crowded": {name: n for name, n in folders.items() if n > MOST_MODULES and name not in FREE},
        "too_long": {name: n for name, n in lines.items() if n > MOST_LINES},
    }


def main() -> int:
    """Print the measures, and return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description="Measure how the code is laid out.")
    parser.add_argument("--root", type=Path, default=Path(), help="Another checkout to measure.")
    parser.add_argument("--quiet", action="store_true", help="Print only what exceeds a limit.")
    asked = parser.parse_args()
    found = measure(asked.root)
    if not asked.quiet:
        print(json.dumps(found, indent=1))
    for name, count in found["crowded"].items():
        print(f"{name}: {count} modules side by side, at most {MOST_MODULES}: give some a folder.", file=sys.stderr)
    for name, count in found["too_long"].items():
        print(f"{name}: {count} lines, at most {MOST_LINES}: split it by purpose.", file=sys.stderr)
    return 1 if found["crowded"] or found["too_long"] else 0


if __name__ == "__main__":
    sys.exit(main())
