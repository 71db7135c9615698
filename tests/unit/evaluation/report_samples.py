"""A report with every section, and a reader of its page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np

from mgc.evaluation.night import (
    Confidence,
    Flip,
    Flips,
    LabelsRun,
    Override,
    Overrides,
    QuarantineRow,
    Throughput,
    TrackCounts,
)
from mgc.evaluation.report import (
    EpochRow,
    ReportContent,
)
from mgc.evaluation.scores import score

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"

SCORES = score(np.array([0, 0, 1, 1, 1]), np.eye(3)[[0, 1, 1, 1, 0]], ("blues", "folk", "jazz"))

RUN = LabelsRun(
    run_id="run-1",
    started_at="2026-03-01T02:00:00+00:00",
    finished_at="2026-03-01T03:05:07.250000+00:00",
    seconds=3907.25,
    catalog_uri="s3://key:secret@music/catalog.parquet?X-Amz-Signature=abc",
    labels_uri="s3://labels/nightly",
    table_version=17,
    counts=TrackCounts(planned=1234, labeled=1230, quarantined=4, up_to_date=80000, pending=2, removed=3),
    genre_counts={"folk": 30, "blues": 90},
    training_genre_share={"blues": 0.25, "jazz": 0.5},
    quarantine_by_kind={"truncated": 3, "empty": 1},
    quarantine=[QuarantineRow("a/1.mp3", "s3://music/a/1.mp3", "truncated", "ends after 0.3 s")],
)

NIGHT = replace(
    RUN,
    counts=replace(RUN.counts, new=1000, changed=200, other_model=4, retried=30, waiting=5, corrected=6,
                   unknown_overrides=8, unseen=7),
    passed_over={".bit": 83, ".jpg": 19, "hidden": 1},
    unreadable=["shut/<b>", "disk"],
    previous_version=16,
    previous_genre_counts={"folk": 900, "blues": 1100},
    genre_counts={"folk": 500, "blues": 1500},
    run_genre_counts={"blues": 1200},
    first_tries={"": 1100, "truncated": 3, "fetch_failed": 97},
    run_quarantine_by_kind={"truncated": 2},
    quarantine_examples={"truncated": [QuarantineRow("a/1.mp3", "s3://music/a/1.mp3", "truncated", "ends at 0.3 s")]},
    quarantine=[QuarantineRow(f"a/{n}.mp3", "s3://music/a", "truncated", "ends after 0.3 s") for n in range(1, 4)],
    throughput=Throughput(1234, 617.0, 12.5, 8, 1, 4 << 30, 3 << 20, 500_000.0, 5400.0, 60.0, 300.0, 40.0),
    confidence=Confidence((0,) * 10 + (100,) * 10, 0.75),
    run_confidence=Confidence((0,) * 10 + (60, 0, 40) + (0,) * 7, 0.56),
    previous_confidence=Confidence((0,) * 19 + (7,), 0.97),
    flips=Flips(
        400, 90, 300, 75, [("folk", "blues", 60), ("jazz", "folk", 30)], [Flip("a/7.mp3", "folk", "blues", 0.91, 0.82)]
    ),
    overrides=Overrides(
        50, 31, 12, 7, [("blues", "jazz", 12)], [Override("a/8.mp3", "jazz", "blues", "ann", "the sleeve says so"),
                                                  Override("a/9.mp3", "jazz", None, "bob", None)]
    ),
)  # fmt: skip

HISTORY = [EpochRow(1, 2.0, 0.3, 2.1, 0.25, 0.2), EpochRow(2, 1.5, 0.5), EpochRow(3, float("nan"), 0.6, 1.9, 0.4, 0.35)]

FULL = ReportContent(
    title="A report",
    notices=["Synthetic corpus."],
    model={"Bundle": "abc123", "Seed": "17"},
    scores=SCORES,
    split_name="test",
    split_description="Artists apart.",
    history=HISTORY,
    labels_run=NIGHT,
)


class Page(HTMLParser):
    """Elements by tag with their attributes, and the text that a reader sees."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}
