"""The report of a search: whole, escaped, nothing loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.unit.tune.searches import search
from tune.report import render_search


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")


def test_the_page_shows_every_trial_and_needs_nothing_but_itself() -> None:
    found = search()
    text = render_search(found)
    page = _Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert page.tags.count("svg") == 3
    # The reason of each failed trial, escaped.
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    best = found.best
    assert best is not None
    assert best.score is not None
    assert f"{best.score:.3f}" in text
    assert re.findall(r'<th scope="row" class="n">(\d+)</th>', text) == [str(trial.number) for trial in found.ranked]
    assert "Noise, not music." in text
    assert render_search(found) == text


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_every_metric_is_drawn(metric: str) -> None:
    assert f"Best validation {metric}" in render_search(search(metric=metric))


def test_a_search_in_which_all_failed_says_so() -> None:
    found = search()
    text = render_search(replace(found, trials=[trial for trial in found.trials if trial.status == "failed"]))
    assert "No trial finished an epoch" in text
    assert "svg" not in _Page(text).tags


def test_one_trial_is_drawn_too() -> None:
    found = search()
    assert _Page(render_search(replace(found, trials=found.ranked[:1]))).tags.count("svg") == 3
