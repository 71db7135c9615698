"""Texts of a report: hostile ones, secrets, and its JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mgc.evaluation.alarms import Thresholds
from mgc.evaluation.night import (
    Flip,
    Flips,
    Override,
    Overrides,
    QuarantineRow,
)
from mgc.evaluation.report import (
    EpochRow,
    ReportContent,
    render_report,
    report_json,
)
from mgc.evaluation.scores import score
from tests.unit.evaluation.report_samples import FULL, HISTORY, HOSTILE, NIGHT, RUN, SCORES, Page


def test_the_json_is_json_and_keeps_no_secret() -> None:
    row = QuarantineRow("a", "s3://key:secret@b/a", "empty", "GET s3://key:secret@b/a?X-Amz-Signature=secret")
    content = replace(FULL, labels_run=replace(NIGHT, quarantine=[row], quarantine_examples={"empty": [row]}))
    text = json.dumps(report_json(content), allow_nan=False)
    assert "secret" not in text
    said = json.loads(text)
    assert said["history"][2]["train_loss"] is None
    assert said["scores"]["accuracy"] == SCORES.accuracy
    assert said["quarantine"][0]["uri"] == "s3://b/a"
    assert [alarm["message"] for alarm in said["alarms"]] == [alarm.message for alarm in NIGHT.alarms]


def test_the_json_of_a_page_without_a_run() -> None:
    said = report_json(ReportContent("t"))
    empty: dict[str, list[str]] = {"notices": [], "leaks": [], "history": []}
    assert said == {"format_version": 1, "title": "t", "model": {}, "scores": None, "kept_epoch": None, **empty}


def test_hostile_text_everywhere_stays_text() -> None:
    named = score(np.array([0, 0, 1]), np.eye(2)[[0, 1, 1]], (HOSTILE, "folk"))
    run = replace(
        NIGHT, run_id=HOSTILE, started_at=HOSTILE, finished_at=HOSTILE, catalog_uri=HOSTILE,
        labels_uri="s3://b/" + HOSTILE, genre_counts={HOSTILE: 1},
        training_genre_share={HOSTILE: 1.0}, quarantine_by_kind={HOSTILE: 1},
        quarantine=[QuarantineRow(HOSTILE, HOSTILE, HOSTILE, HOSTILE)] * 2, run_quarantine_by_kind={HOSTILE: 1},
        quarantine_examples={HOSTILE: [QuarantineRow(HOSTILE, HOSTILE, HOSTILE, HOSTILE)]},
        previous_genre_counts={HOSTILE: 1}, run_genre_counts={HOSTILE: 1}, first_tries={HOSTILE: 1},
        flips=Flips(1, 1, 1, 1, [(HOSTILE, HOSTILE, 1)], [Flip(HOSTILE, HOSTILE, HOSTILE, 0.5, 0.5)]),
        overrides=Overrides(
            1, 0, 1, 0, [(HOSTILE, HOSTILE, 1)], [Override(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)]
        ),
        limits=Thresholds(mix_tracks=1, share_tracks=1, flips=0.5),
    )  # fmt: skip
    html = render_report(
        ReportContent(
            HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, named, HOSTILE, HOSTILE, [EpochRow(1, 1.0, 0.5)], run
        )
    )  # fmt: skip
    page = Page(html)
    assert not {"script", "img"} & page.tags()
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert page.text.count("alert('x')") >= 30


@pytest.mark.parametrize("name", ["bad\udcff.mp3", "nul\x00.mp3", "turned\u202e3pm.exe", "return\r.mp3"])
def test_names_that_cannot_be_shown_are_written_out(name: str) -> None:
    run = replace(RUN, quarantine=[QuarantineRow(name, "u", "empty", "m")])
    html = render_report(ReportContent("t", labels_run=run))
    assert name.encode("unicode_escape").decode() in html.encode().decode()
    assert name not in html


def test_a_very_long_message_is_cut() -> None:
    run = replace(RUN, quarantine=[QuarantineRow("t", "u", "empty", "x" * 100_000)])
    html = render_report(ReportContent("t", labels_run=run))
    assert "x" * 400 + "…" in html
    assert "x" * 401 not in html


def test_the_page_needs_nothing_but_itself(full: Page, full_html: str) -> None:
    assert set(re.findall(r"https?://[^\"' )<]+", full_html)) == {"http://www.w3.org/2000/svg"}
    assert not {"script", "img", "iframe", "object"} & full.tags()
    assert "@import" not in full_html
    assert [a["href"] for tag, a in full.elements if tag == "link"] == ["data:,"]
    policies = [a["content"] for tag, a in full.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert str(policies[0]).startswith("default-src 'none'")


def test_the_same_content_gives_the_same_page_whatever_matplotlibs_style(full_html: str) -> None:
    """And rendering leaves the user's style as it was."""
    import matplotlib as mpl

    with mpl.rc_context({"lines.linewidth": 7.5, "svg.fonttype": "path", "font.size": 30}):
        before = dict(mpl.rcParams)
        assert render_report(FULL) == full_html
        assert dict(mpl.rcParams) == before


def test_slow_libraries_are_imported_only_where_they_are_needed() -> None:
    program = (
        "import sys; from mgc.evaluation.report import ReportContent, render_report; render_report(ReportContent('t'));"
        "print(sorted({'matplotlib', 'sklearn', 'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_no_secret_reaches_the_page_wherever_it_stands() -> None:
    uri = "s3://key:HUSH@bucket/a.mp3?X-Amz-Credential=HUSH"
    # Long enough that a cut could leave the secret without the sign that ends it.
    long = "x" * 390 + " " + uri
    run = replace(
        RUN, run_id=uri, catalog_uri=uri, labels_uri=uri, genre_counts={uri: 1}, quarantine_by_kind={uri: 1},
        quarantine=[QuarantineRow(uri, uri, uri, long), QuarantineRow(long, long, "empty", uri)],
    )  # fmt: skip
    html = render_report(ReportContent(uri, [uri], {uri: uri}, SCORES, uri, uri, HISTORY, run))
    assert "HUSH" not in html
    assert "key:" not in html
