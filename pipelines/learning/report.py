"""The page "tags against ears"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import pyarrow as pa
from pydantic import JsonValue

from mgc.bundle import Bundle
from mgc.evaluation.report import page_environment
from pipelines.learning.labels import BY_EARS, BY_TAG

SHOWN: Final = 200
"""Disagreements on the page; the CSV file has all."""


@dataclass(frozen=True, eq=False)
class Findings:
    """Contents of the page.

    Attributes:
        source: the source.
        bundle: the probe, with its score.
        labels: rows of `labels.LABELS`.
        differ: those in which tag and ears differ, the most certain first.
        counts: tracks by what became of them.
    """

    source: str
    bundle: Bundle
    labels: pa.Table
    differ: pa.Table
    counts: Mapping[str, JsonValue]


class _Genre(NamedTuple):
    """Tracks of a genre, and its score."""

    name: str
    by_tag: int
    by_ears: int
    f1: float | None


def render(found: Findings) -> str:
    """Return a complete HTML document."""
    evaluation = found.bundle.evaluation
    scores = None if evaluation is None else evaluation.read_scores()
    by_genre = Counter(zip(found.labels["genre_top"].to_pylist(), found.labels["labelled_by"].to_pylist(), strict=True))
    f1 = {} if scores is None else {each.genre: each.f1 for each in scores.per_genre}
    genres = [
        _Genre(name, by_genre[name, BY_TAG], by_genre[name, BY_EARS], f1.get(name))
        for name in found.bundle.taxonomy.names
    ]
    kinds = zip(found.labels["error_kind"].to_pylist(), found.labels["labelled_by"].to_pylist(), strict=True)
    errors = Counter(kind for kind, by in kinds if kind and by is None)
    return (
        page_environment("pipelines.learning")
        .get_template("report.html")
        .render(
            found=found,
            scores=scores,
            genres=genres,
            shown=found.differ.slice(0, SHOWN).to_pylist(),
            errors=sorted(errors.items()),
            description="" if evaluation is None else evaluation.description,
        )
    )
