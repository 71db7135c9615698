"""The page of the Python API: signatures and docstrings of what docs/python-api.md names, and of `mgc.__all__`."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from enum import Enum, EnumType
from types import FunctionType
from typing import Final

import mgc

_NAME: Final = re.compile(r"`((?:mgc|cluster)(?:\.\w+)+)`")
_SECTION: Final = re.compile(r"(Args|Attributes|Returns|Yields|Raises):")
_ITEM: Final = re.compile(r"(\w+): (.*)")
_ROOMS: Final = ("mgc", "cluster")

_INTRODUCTION = """\
# Python reference

The public Python API: what [this page](python-api.md) names. It is made from the docstrings. Everything else may change
without notice.
"""


def public_names(text: str) -> list[str]:
    """Return the dotted names that are public: `mgc.__all__`, then those in code in a page of Markdown.

    Args:
        text: the page; a name counts if it begins with `mgc.` or `cluster.` and stands alone in backticks.
    """
    exported = [f"mgc.{name}" for name in mgc.__all__ if name != "__version__"]
    return list(dict.fromkeys([*exported, *_NAME.findall(text)]))


def page(names: list[str]) -> str:
    """Return the page as Markdown.

    Args:
        names: dotted names of modules, classes, functions and constants.

    Raises:
        LookupError: there is no such object.
    """
    parts = [_INTRODUCTION]
    for name in names:
        parts += _entry(name, resolve(name))
    return "\n\n".join(parts) + "\n"


def resolve(name: str) -> object:
    """Return the object of a dotted name.

    Raises:
        LookupError: there is none.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        try:
            return importlib.import_module(name)
        except ImportError:
            raise LookupError(f"docs/python-api.md names {name}, which is not there") from None


def _entry(name: str, found: object) -> Iterator[str]:
    """Yield the parts of one object's section."""
    yield f"## {name}"
    if isinstance(found, EnumType):
        yield _markdown(inspect.getdoc(found) or "")
        members: Mapping[str, Enum] = found.__members__
        yield "\n".join(f"- `{key}`: `{member.value}`" for key, member in members.items())
    elif inspect.isclass(found):
        yield _signature(found.__name__, found)
        yield _markdown(inspect.getdoc(found) or "")
        for member, value in _members(found):
            yield f"### {found.__name__}.{member}"
            if isinstance(value, property):
                yield _markdown(inspect.getdoc(value) or "")
            else:
                yield _signature(member, value)
                yield _markdown(inspect.getdoc(value) or "")
    elif inspect.isfunction(found):
        yield _signature(found.__name__, found)
        yield _markdown(inspect.getdoc(found) or "")
    elif inspect.ismodule(found):
        yield _markdown(inspect.getdoc(found) or "")
    elif isinstance(found, Mapping):
        yield ", ".join(f"`{key}`" for key in found)
    else:
        yield f"```text\n{found}\n```"


def _members(owner: type) -> Iterator[tuple[str, object]]:
    """Yield the public methods and properties of a class that are ours, in the order of their definition."""
    seen: set[str] = set()
    for base in owner.__mro__:
        if base.__module__.partition(".")[0] not in _ROOMS:
            continue
        for name, value in vars(base).items():
            kind = isinstance(value, (FunctionType, property, classmethod, staticmethod))
            if kind and not name.startswith("_") and name not in seen and inspect.getdoc(value):
                seen.add(name)
                yield name, getattr(owner, name) if isinstance(value, (classmethod, staticmethod)) else value


def _signature(name: str, found: object) -> str:
    """Return a call's signature as a block of code, one parameter a line where it is long."""
    assert callable(found)
    signature = inspect.signature(found)
    text = re.sub(r"<factory>", "...", str(signature)).replace("'", "").replace("self, ", "").replace("(self)", "()")
    line = f"{name}{text}"
    if len(line) > 100:
        head, _, tail = line.partition("(")
        inside, closing, rest = tail.rpartition(")")
        line = f"{head}(\n    " + ",\n    ".join(_split(inside)) + f",\n{closing}{rest}"
    return f"```python\n{line}\n```"


def _split(parameters: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    parts, depth = [""], 0
    for letter in parameters:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _markdown(docstring: str) -> str:
    """Return a docstring of Google style as Markdown: its sections become lists with a bold title."""
    lines: list[str] = []
    section: str | None = None
    for line in docstring.splitlines():
        heading = _SECTION.fullmatch(line)
        if heading:
            section = heading[1]
            lines += [f"**{section}**", ""]
        elif section is None or not line.strip():
            lines.append(_escape(line))
        elif not line.startswith("    "):
            section = None
            lines.append(_escape(line))
        else:
            text = line[4:]
            item = _ITEM.fullmatch(text)
            if item and section not in ("Returns", "Yields"):
                lines.append(f"- `{item[1]}`: {_escape(item[2])}")
            else:
                lines.append(("  " if section not in ("Returns", "Yields") else "") + _escape(text.strip()))
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Escape what Markdown would take for HTML or a heading, but leave code as it is."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*").replace("#", "\\#") for part in parts[::2]]
    return "`".join(parts)
