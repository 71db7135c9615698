"""A hook of MkDocs: adds to docs/ the pages that lie elsewhere or are made from the code, and mends their links.

`make docs` builds the site; mkdocs.yml names this file. Links are written for a reader of the repository, relative to
the file that they stand in. Here they become links between pages; a link to a file that is no page becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from infra.docs import api, cli, recipes

ROOT: Final = Path(__file__).parents[2]

ELSEWHERE: Final = {
    "index.md": "README.md",
    "results.md": "RESULTS.md",
    "benchmarks.md": "BENCHMARKS.md",
    "changelog.md": "CHANGELOG.md",
    "architecture.md": "ARCHITECTURE.md",
    "contributing.md": "CONTRIBUTING.md",
    "infrastructure.md": "infra/README.md",
    "monitoring.md": "infra/monitoring/README.md",
    "model-card.md": "mgc/default_bundle/MODEL_CARD.md",
    **{f"adr/{file.name}": f"infra/adr/{file.name}" for file in sorted((ROOT / "infra/adr").glob("*.md"))},
}
"""Pages that do not lie in docs/: their place in the site, and the file that they are."""

GENERATED: Final[dict[str, Callable[[], str]]] = {
    "cli.md": cli.page,
    "api.md": lambda: api.page(api.public_names((ROOT / "docs/python-api.md").read_text(encoding="utf-8"))),
    "recipes.md": recipes.page,
}
"""Pages that are made from the code."""

_TARGET: Final = re.compile(r"(?<=\]\()[^()\s]+(?=\))")
_NO_PAGE: Final = "no-page:"
_LINK_TO_NO_PAGE: Final = re.compile(rf"\[([^\[\]]*)\]\({_NO_PAGE}\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for place, source in ELSEWHERE.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for place, make in GENERATED.items():
        files.append(File.generated(config, place, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mend the links of one page."""
    place = page.file.src_uri
    return markdown if place in GENERATED else mend(markdown, place)


def mend(markdown: str, place: str) -> str:
    """Return a page whose links lead to pages.

    Args:
        markdown: the text as it stands in the repository.
        place: of the page in the site, such as `adr/0001-configuration-floor.md`.
    """
    source = ELSEWHERE.get(place, f"docs/{place}")
    pages = {origin: page for page, origin in ELSEWHERE.items()}

    def target(match: re.Match[str]) -> str:
        path, _, anchor = match[0].partition("#")
        if not path or "://" in path:
            return match[0]
        origin = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page = pages.get(origin) or (origin.removeprefix("docs/") if origin.startswith("docs/") else None)
        if page is None:
            # MkDocs says what does not exist.
            return _NO_PAGE if (ROOT / origin).exists() else match[0]
        return posixpath.relpath(page, posixpath.dirname(place)) + (f"#{anchor}" if anchor else "")

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [_LINK_TO_NO_PAGE.sub(r"\1", _TARGET.sub(target, part)) for part in parts[::2]]
    return "".join(parts)
