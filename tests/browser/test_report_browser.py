"""The report in a real browser. Needs Chromium (Debian: `apt-get install chromium`); skips where there is none."""

from __future__ import annotations

import functools
import html
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageStat

from mgc.evaluation.calibration import calibration
from mgc.evaluation.embedding_map import embedding_map
from mgc.evaluation.intervals import Interval, ResamplingGroups
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
from mgc.evaluation.report import EpochRow, ReportContent, render_report
from mgc.evaluation.robustness import Robustness, RobustnessPoint
from mgc.evaluation.scores import score
from mgc.evaluation.shots import shot_scores
from tests.support.browser import CHROMIUM, open_page, take_picture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: chromium, chromium-browser and google-chrome not found"),
]

GENRES = (
    "Blues",
    "Classical",
    "Electronic",
    "Experimental",
    "Folk",
    "Hip-Hop",
    "Jazz",
    "Old-Time / Historic",
    "Pop",
    "Rock",
)


@functools.cache
def page() -> str:
    random = np.random.default_rng(17)
    truth_N = random.integers(0, len(GENRES), 400)
    logits_NG = random.normal(size=(400, len(GENRES)))
    logits_NG[np.arange(400), truth_N] += 1.5
    probabilities_NG = np.exp(logits_NG) / np.exp(logits_NG).sum(axis=1, keepdims=True)
    artists = ResamplingGroups.of((np.arange(400) // 5).tolist(), "artists")
    names = [GENRES[g] for g in truth_N]
    answers = [GENRES[g] for g in logits_NG.argmax(axis=1)]
    levels = ((0.0, 0.6), (0.25, 0.4), (0.5, 0.2), (0.75, 0.1))
    quarantine = [
        QuarantineRow(
            f"folder/{n}/<script>document.title='owned'</script>{'w' * 150}.mp3",
            f"s3://music/folder/{n}.mp3",
            "truncated",
            "the stream ends after 0.3 s",
        )
        for n in range(5)
    ]
    scores = score(truth_N, logits_NG, GENRES, artists)
    return render_report(
        ReportContent(
            title="Ten genres",
            notices=["Synthetic corpus."],
            model={"Bundle": "0123456789ab", "Parameters": "311,434"},
            scores=scores,
            shots=shot_scores(scores.confusion, GENRES, [7103, 1200, 800, 120, 100, 60, 41, 30, 20, 6]),
            kept_epoch=9,
            calibration=calibration(truth_N, probabilities_NG, artists),
            robustness=Robustness(
                tuple(RobustnessPoint(zeroed, share, Interval(share - 0.05, share + 0.05)) for zeroed, share in levels),
                "the floor, as in silence",
                0,
                0.1,
            ),
            embedding_map=embedding_map([str(n) for n in range(400)], logits_NG, names, answers, 400),
            split_description="400 tracks of 80 artists.",
            history=[EpochRow(n, 2 / n, 1 - 0.8 / n, 2.2 / n, 0.9 - 0.8 / n, 0.85 - 0.8 / n) for n in range(1, 13)],
            labels_run=night(quarantine),
        )
    )


def night(quarantine: list[QuarantineRow]) -> LabelsRun:
    """A run with something to show in every section, its names as long as they come."""
    name = "album/" + "w" * 150 + ".mp3"
    bell = tuple(round(4000 * np.exp(-((place - 11) ** 2) / 18)) for place in range(20))
    return LabelsRun(
        run_id="0123456789ab",
        started_at="2026-03-01T02:00:00+00:00",
        finished_at="2026-03-01T02:10:00+00:00",
        seconds=600.0,
        catalog_uri="s3://music/catalog.parquet",
        labels_uri="s3://labels/nightly",
        table_version=3,
        counts=TrackCounts(
            planned=20405, labeled=20000, quarantined=405, up_to_date=123456, pending=7, removed=12, new=20000,
            changed=300, other_model=80, retried=25, waiting=31, corrected=4, unknown_overrides=2,
        ),
        genre_counts={genre: 2000 * n + 500 for n, genre in enumerate(GENRES)},
        training_genre_share=dict.fromkeys(GENRES, 0.1),
        previous_version=2,
        previous_genre_counts={genre: 1500 * (10 - n) + 500 for n, genre in enumerate(GENRES)},
        run_genre_counts={genre: 400 * n for n, genre in enumerate(GENRES)},
        first_tries={"": 20000, "truncated": 300, "fetch_failed": 105},
        quarantine_by_kind={"truncated": 311, "fetch_failed": 120},
        run_quarantine_by_kind={"truncated": 300, "fetch_failed": 105},
        quarantine=quarantine * 3,
        quarantine_total=431,
        quarantine_examples={"truncated": quarantine},
        throughput=Throughput(20405, 540.0, 31.0, 16, 1, 190 << 30, 17 << 30, 5.1e6, 6.1e5, 900.0, 6400.0, 310.0),
        confidence=Confidence(bell, 0.58),
        run_confidence=Confidence(tuple(reversed(bell)), 0.44),
        previous_confidence=Confidence(bell, 0.58),
        flips=Flips(
            380, 95, 80, 30,
            [("Old-Time / Historic", "Experimental", 50), ("Rock", "Pop", 30), ("Pop", "Rock", 15)],
            [Flip("a/1.mp3", "Rock", "Pop", 0.98, 0.91), Flip(name, "Old-Time / Historic", "Experimental", 0.9, None)],
        ),
        overrides=Overrides(
            41, 30, 10, 1, [("Experimental", "Old-Time / Historic", 8), ("Rock", "Pop", 2)],
            [Override(name, "Folk", None, "ann@labels.example", "the sleeve says so, " * 12),
             Override("a/2.mp3", "Pop", "Rock", "bob", None)],
        ),
    )  # fmt: skip


def console(log: str) -> list[str]:
    return [line for line in log.splitlines() if ":CONSOLE" in line]


def test_the_browser_builds_every_section_without_complaint(tmp_path: Path) -> None:
    dom, log = open_page(tmp_path, page(), "--dump-dom")
    sections = re.findall(r'<section id="([^"]+)"', dom)
    assert sections == [
        "labels", "mix", "confidence", "flips", "overrides", "quarantine", "scores", "genres", "confusion",
        "calibration", "robustness", "map", "training", "model",
    ]  # fmt: skip
    assert dom.count('role="img"') == 6
    assert dom.count("<use href") >= 400 + len(GENRES)
    assert "alarms</strong>" in dom
    assert len(re.findall(r'<td class="(?:right|wrong)[^>]*>\d+</td>', dom)) == len(GENRES) ** 2
    assert "few-shot" in dom
    assert dom.count("; epoch 9 was kept.") == 2
    assert "<title>Ten genres</title>" in dom
    assert "<script" not in dom
    assert set(re.findall(r"https?://[^\"' )<]+", dom)) == {"http://www.w3.org/2000/svg"}
    assert console(log) == []


def test_a_script_that_got_in_would_not_run(tmp_path: Path) -> None:
    broken = page().replace("</body>", "<script>document.title = 'owned'</script></body>")
    dom, log = open_page(tmp_path, broken, "--dump-dom")
    assert "<title>Ten genres</title>" in dom
    assert any("Content Security Policy" in line for line in console(log)), log


def test_the_page_fits_wide_and_narrow_windows(tmp_path: Path) -> None:
    """Only the tables in their own frames scroll sideways, never the page. Chromium's own window cannot be narrow."""
    frames = "".join(
        f'<iframe width="{width}" height="800" srcdoc="{html.escape(page(), quote=True)}"></iframe>'
        for width in (360, 700, 1400)
    )
    script = (
        "<script>onload = () => { document.title = [...document.querySelectorAll('iframe')].map(frame => "
        "frame.contentDocument.documentElement.scrollWidth + ' of ' + frame.clientWidth + ' px').join(', ') }</script>"
    )
    dom, _ = open_page(tmp_path, f"<title>not measured</title>{script}{frames}", "--dump-dom")
    measured = re.search(r"<title>(.*?)</title>", dom)
    assert measured is not None
    # 15 px of each frame are its vertical scroll bar.
    assert measured[1] == "345 of 360 px, 685 of 700 px, 1385 of 1400 px"


@pytest.mark.parametrize(("scheme", "brightness"), [("light", (180, 255)), ("dark", (10, 75))])
def test_the_screenshot_shows_a_page(tmp_path: Path, scheme: str, brightness: tuple[int, int]) -> None:
    picture = take_picture(tmp_path, page(), (1280, 1600), scheme)
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.size == (1280, 1600)
        grey = image.convert("L")
    assert brightness[0] < ImageStat.Stat(grey).mean[0] < brightness[1]
    # Text and shades all the way down: no quarter of the page is blank.
    for top in range(0, 1600, 400):
        assert ImageStat.Stat(grey.crop((0, top, 1280, top + 400))).stddev[0] > 5
