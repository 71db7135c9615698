"""The sections of a report that go beyond the score: intervals, calibration, robustness, the map."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from mgc.evaluation.calibration import calibration
from mgc.evaluation.embedding_map import EmbeddingMap, MapPoint
from mgc.evaluation.intervals import Interval, ResamplingGroups
from mgc.evaluation.report import ReportContent, render_report, report_json
from mgc.evaluation.robustness import Robustness, RobustnessPoint
from mgc.evaluation.score_figures import map_figure
from mgc.evaluation.scores import Scores, score

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>$\\frac{"
GENRES = ("blues", "folk", "jazz")

RANDOM = np.random.default_rng(21)
TRUE = RANDOM.integers(0, 3, 90)
LOGITS = RANDOM.normal(size=(90, 3))
LOGITS[np.arange(90), TRUE] += 1.2
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
ARTISTS = ResamplingGroups(np.arange(90) // 3, "artists")
SCORES = score(TRUE, PROBABILITIES, GENRES, ARTISTS)

ROBUSTNESS = Robustness(
    (
        RobustnessPoint(0.0, 0.6, Interval(0.52, 0.68)),
        RobustnessPoint(0.25, 0.31, Interval(0.24, 0.39)),
        RobustnessPoint(0.5, 0.2, None),
        RobustnessPoint(0.75, 0.1, Interval(0.05, 0.15)),
    ),
    "the floor, as in silence",
    7,
    1 / 3,
)
MAP = EmbeddingMap(
    tuple(
        MapPoint(f"t{n:02d}", float(n % 7), float(n // 7) - 3.0, GENRES[n % 3], GENRES[(n // 5) % 3]) for n in range(40)
    ),
    90,
    13.0,
    5,
)
FULL = ReportContent(
    "A report",
    scores=SCORES,
    calibration=calibration(TRUE, PROBABILITIES, ARTISTS),
    robustness=ROBUSTNESS,
    embedding_map=MAP,
)


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(FULL)


def text(html: str) -> str:
    """What a reader sees."""
    body = re.sub(r"</?span[^>]*>", "", html)
    body = re.sub(r"<style>.*?</style>", "", body, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_every_section_is_there_and_linked(html: str) -> None:
    sections = re.findall(r'<section id="([^"]+)"', html)
    assert sections == ["scores", "genres", "confusion", "calibration", "robustness", "map"]
    assert re.findall(r'<a href="#([^"]+)"', html) == sections
    bare = render_report(replace(FULL, calibration=None, robustness=None, embedding_map=None))
    assert re.findall(r'<section id="([^"]+)"', bare) == ["scores", "genres", "confusion"]


def test_no_id_stands_twice_and_every_reference_has_its_target(html: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html)
    assert len(targets) > 50
    assert {name for found in targets for name in found if name} <= set(ids)


def test_intervals_are_shown_with_their_groups(html: str) -> None:
    sure = SCORES.accuracy_interval
    assert sure is not None
    words = text(html)
    ends = f"{100 * sure.low:.1f}\N{EN DASH}{100 * sure.high:.1f}"
    assert f"95 % interval {ends} %; 90 tracks" in words
    assert "the 30 artists were resampled with replacement 2,000 times" in words
    assert "too narrow" not in words
    assert "Genre Tracks Artists Answered Precision Recall F1" in words
    row = SCORES.per_genre[1]
    assert row.recall is not None
    assert row.recall_interval is not None
    low, high = (f"{100 * end:.0f}" for end in (row.recall_interval.low, row.recall_interval.high))
    assert f"{100 * row.recall:.1f} % {low}\N{EN DASH}{high}" in words
    assert html.count("<u></u>") == 3


@pytest.mark.parametrize(
    ("groups", "unit", "said"),
    [
        (
            ResamplingGroups(np.arange(90) // 9, "artists"),
            "tracks",
            "With fewer than 20 artists the intervals are too narrow",
        ),
        (None, "tracks", "No artist is known. Tracks of one artist are alike, so with many tracks an artist the true"),
        (
            ResamplingGroups(np.arange(90) // 3, "tracks"),
            "clips",
            "The clips of a track are drawn together. No artist is known.",
        ),
        (None, "clips", "Clips of one track are alike, so the true intervals are wider."),
        (
            ResamplingGroups(np.maximum(np.arange(90) - 45, 0), "artists"),
            "tracks",
            "count for no more than 4 of equal size.",
        ),
        (
            ResamplingGroups(np.zeros(90, np.int64), "artists"),
            "tracks",
            "All tracks belong to one group (artists), so no interval",
        ),
    ],
)
def test_what_the_intervals_are_worth_is_said(groups: ResamplingGroups | None, unit: str, said: str) -> None:
    scores = score(TRUE, PROBABILITIES, GENRES, groups, unit)  # type: ignore[arg-type]
    html = render_report(ReportContent("t", scores=scores))
    assert said in text(html)
    assert f"Numbers are {unit};" in text(html)
    assert ("<u></u>" in html) == (scores.groups != 1)


def test_scores_of_older_bundles_are_shown() -> None:
    old = SCORES.to_json()
    for name in (
        "accuracy_interval",
        "macro_f1_interval",
        "top_k_intervals",
        "unit",
        "groups",
        "effective_groups",
        "group_kind",
    ):
        del old[name]
    for row in old["per_genre"]:
        for name in ("precision_interval", "recall_interval", "f1_interval", "groups"):
            del row[name]
    html = render_report(
        ReportContent("t", scores=Scores.from_json({**old, "accuracy_low": 0.41, "accuracy_high": 0.62}))
    )
    assert "95 % interval 41.0\N{EN DASH}62.0 %; 90 tracks" in text(html)
    assert "treats tracks as independent" in text(html)
    assert "<u></u>" not in html
    assert "Genre Tracks Answered Precision" in text(html)


def test_calibration_is_shown(html: str) -> None:
    made = FULL.calibration
    assert made is not None
    assert f"Calibration error {100 * made.expected_error:.1f} %" in text(html)
    assert f"at an accuracy of {100 * made.accuracy:.1f} %" in text(html)
    filled = [each for each in made.bins if each.tracks]
    assert html.count("\N{NO-BREAK SPACE}% to ") == len(filled)
    (label,) = re.findall(r'aria-label="(Reliability diagram[^"]*)"', html)
    assert f"expected calibration error {made.expected_error:.1%}" in label


def test_robustness_is_shown(html: str) -> None:
    words = text(html)
    assert "chosen at random (seed 7)" in words
    assert "Here zero means the floor, as in silence." in words
    assert "25 % 31.0 % 24.0\N{EN DASH}39.0" in words
    assert "50 % 20.0 % \N{EN DASH}" in words
    assert 'aria-label="Accuracy: 60.0% with 0% zeroed, 31.0% with 25% zeroed' in html


def test_the_map_marks_what_was_answered_wrongly(html: str) -> None:
    words = text(html)
    assert "What the last layer sees of 40 of the 90 tracks" in words
    assert "perplexity 13, seed 5" in words
    (svg,) = re.findall(r'<svg[^>]*aria-label="Map.*?</svg>', html, re.S)
    filled, hollow = (re.findall(rf'<use href="#map-{kind}(\d)"', svg) for kind in "rw")
    wrong = [GENRES.index(point.genre) for point in MAP.points if point.genre != point.answer]
    assert [int(mark) for mark in hollow] == wrong
    assert len(filled) == 40 - len(wrong)
    assert "blues 14 folk 13 jazz 13 filled: right hollow: wrong" in words


def test_every_genre_on_the_map_has_a_mark_of_its_own() -> None:
    genres = [f"genre {n:02d}" for n in range(26) for _ in range(26 - n)]
    points = tuple(MapPoint(f"t{n:03d}", n % 17, n % 23, genre, genre) for n, genre in enumerate(genres))
    drawn = map_figure(EmbeddingMap(points, 400, 30.0, 0))
    assert [row[1] for row in drawn.legend] == [*sorted(set(genres))[:20], None]
    assert drawn.legend[-1][2] == sum(range(1, 7))
    marks = re.findall(r'<path id="map-r[^"]*" (d="[^"]*" style="fill:[^;]*)', drawn.svg)
    assert len(set(marks)) == len(marks) == 21


def test_points_stay_inside_the_picture() -> None:
    for shape in ((1000, 1), (1, 1000), (0, 0)):
        points = tuple(MapPoint(str(n), n * shape[0], n * shape[1], "a", "a") for n in range(5))
        svg = map_figure(EmbeddingMap(points, 5, 1.0, 0)).svg
        box = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
        assert box is not None
        for x, y in re.findall(r'x="([^"]+)" y="([^"]+)"', svg):
            assert 4 <= float(x) <= float(box[1]) - 4
            assert 4 <= float(y) <= float(box[2]) - 4


def test_hostile_genres_stay_text() -> None:
    points = tuple(replace(point, genre=HOSTILE, track_id=HOSTILE) for point in MAP.points)
    content = replace(
        FULL,
        scores=score(TRUE, PROBABILITIES, (HOSTILE, "_hidden", "\u97f3\u697d"), ARTISTS),
        robustness=replace(ROBUSTNESS, zero=HOSTILE),
        embedding_map=replace(MAP, points=points),
    )
    html = render_report(content)
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("&lt;script&gt;") > 10
    json.dumps(report_json(content), allow_nan=False)


def test_the_json_holds_what_the_page_shows() -> None:
    said = json.loads(json.dumps(report_json(FULL), allow_nan=False))
    assert said["scores"]["groups"] == 30
    assert said["scores"]["group_kind"] == "artists"
    assert Scores.from_json(said["scores"]) == SCORES
    assert [point["zeroed"] for point in said["robustness"]["points"]] == [0.0, 0.25, 0.5, 0.75]
    assert said["robustness"]["points"][0]["accuracy_interval"] == {"low": 0.52, "high": 0.68}
    assert len(said["calibration"]["bins"]) == 15
    point = {"track_id": "t03", "x": 3.0, "y": -3.0, "genre": "blues", "answer": "blues"}
    assert said["embedding_map"]["points"][3] == point
    assert (
        not {"calibration", "robustness", "embedding_map", "shots"}
        & report_json(ReportContent("t", scores=SCORES)).keys()
    )


def test_the_page_stays_small() -> None:
    points = tuple(MapPoint(f"t{n}", n % 31, n % 37, GENRES[n % 3], GENRES[0]) for n in range(1000))
    assert len(render_report(replace(FULL, embedding_map=EmbeddingMap(points, 1000, 30.0, 0)))) < 150_000


def test_figures_take_every_colour_from_the_page(html: str) -> None:
    svgs = re.findall(r'<svg[^>]*role="img".*?</svg>', html, re.S)
    assert len(svgs) == 3
    for svg in svgs:
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
    variables = set(re.findall(r"var\((--map-\d)\)", html))
    root = html[: html.index("</style>")]
    assert all(root.count(f"{variable}:") == 2 for variable in variables), "one for light, one for dark"


def test_the_same_content_gives_the_same_page(html: str) -> None:
    assert render_report(FULL) == html
