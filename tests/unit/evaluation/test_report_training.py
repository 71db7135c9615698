"""What the report says of the training: the epoch that was kept, histories without validation, rare genres."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from mgc.evaluation.report import EpochRow, ReportContent, render_report, report_json
from mgc.evaluation.scores import score
from mgc.evaluation.shots import shot_scores

GENRES = ("blues", "folk", "jazz", "rock")
SCORES = score(np.array([0, 0, 1, 1, 1, 3]), np.eye(4)[[0, 1, 1, 1, 0, 3]], GENRES)
HISTORY = tuple(EpochRow(n, 2 / n, 1 - 0.8 / n, 2.2 / n, 0.9 - 0.8 / n, 0.85 - 0.8 / n) for n in range(1, 7))
CONTENT = ReportContent(
    title="Test",
    scores=SCORES,
    history=HISTORY,
    kept_epoch=4,
    shots=shot_scores(SCORES.confusion, GENRES, [5, 1200, 40, 40]),
)


def section(html: str, name: str) -> str:
    return html[html.index(f'<section id="{name}"') :].partition("</section>")[0]


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_kept_epoch_is_marked_in_words_curves_and_numbers() -> None:
    part = section(render_report(CONTENT), "training")
    assert "The model has the weights of epoch 4." in text(part)
    labels = re.findall(r'aria-label="([^"]*)"', part)
    assert sum(label.endswith("; epoch 4 was kept.") for label in labels) == 2
    # The line and its name in the legend: matplotlib writes names as text.
    assert len(re.findall(r">kept</text>", part)) == 2
    rows = re.findall(r'<tr><th scope="row" class="n">([^<]*)</th>', part)
    assert rows == ["1", "2", "3", "kept: 4", "5", "6"]


def test_no_epoch_is_marked_where_nobody_noted_it() -> None:
    part = section(render_report(replace(CONTENT, kept_epoch=None)), "training")
    assert "kept" not in part
    assert "weights of epoch" not in part


def test_a_history_without_validation_is_shown_and_said() -> None:
    """A model that was trained on the validation tracks too has nothing to choose an epoch by."""
    history = [EpochRow(row.epoch, row.train_loss, row.train_accuracy) for row in HISTORY]
    html = render_report(replace(CONTENT, history=history, kept_epoch=6))
    part = section(html, "training")
    assert "no tracks were held out to choose an epoch by" in text(part)
    assert part.count("<svg") == 2
    assert ">validation</text>" not in part
    assert ">train</text>" in part
    assert "None" not in part
    assert "nan" not in part
    [first] = re.findall(r"<tr><th[^>]*>1</th>(.*?)</tr>", part, re.DOTALL)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", first)
    assert cells[2:] == ["\N{EN DASH}"] * 3
    assert report_json(replace(CONTENT, history=history))["history"][0]["validation_loss"] is None


def test_a_history_with_validation_says_nothing_of_its_absence() -> None:
    assert "held out to choose" not in render_report(CONTENT)


def test_many_medium_and_few_shot_genres_are_a_table() -> None:
    part = section(render_report(CONTENT), "genres")
    table = part[part.index("By amount of training data") :]
    found = [
        [text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    ]
    assert found == [
        ["many-shot", "40\N{EN DASH}1,200", "3", "66.7 %", "folk, jazz"],
        ["medium-shot", "40", "1", "100.0 %", "rock"],
        ["few-shot", "5", "2", "50.0 %", "blues"],
    ]


def test_a_group_without_genres_has_dashes() -> None:
    shots = shot_scores(SCORES.confusion, GENRES, [500] * 4, (100, 20))
    part = section(render_report(replace(CONTENT, shots=shots)), "genres")
    [row] = re.findall(r'<tr><th scope="row" class="whole">few-shot</th>(.*?)</tr>', part, re.DOTALL)
    assert [text(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] == ["\N{EN DASH}", "0", "\N{EN DASH}", ""]


def test_without_counts_of_training_there_is_no_such_table() -> None:
    assert "few-shot" not in render_report(replace(CONTENT, shots=()))


@pytest.mark.parametrize("kept", [4, None])
def test_the_json_has_the_kept_epoch(kept: int | None) -> None:
    assert report_json(replace(CONTENT, kept_epoch=kept))["kept_epoch"] == kept
