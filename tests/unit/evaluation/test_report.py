from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mgc.evaluation.report import (
    EpochRow,
    ReportContent,
    render_report,
    report_json,
)
from tests.unit.evaluation.report_samples import FULL, HISTORY, NIGHT, RUN, SCORES, Page


def test_the_page_says_what_it_was_given(full: Page) -> None:
    for words in (
        "A report", "Synthetic corpus.", "Scores on the split “test”", "Artists apart.", "60.0 %", "5 tracks",
        "33.3 %", "always answering folk", "1 h 5 min", "2026-03-01 03:05:07 UTC", "version 17", "1,234", "80,000",
        "4 tracks have no label", "3 of the 4 tracks", "ends after 0.3 s", "abc123", "3 epochs as numbers",
        "1,000 new, 200 changed, 4 by another model, 30 again", "8 corrections of tracks that neither",
        "Waiting 5", "Corrected 6",
        "Unseen 7", "Passed over 103", "83 .bit, 19 .jpg, 1 hidden", "shut/<b>", "disk",
        "truncated 3 2", "ends at 0.3 s",
    ):  # fmt: skip
        assert words in full.text


def test_sections_and_their_links(full: Page) -> None:
    sections = {
        "labels", "mix", "confidence", "flips", "overrides", "quarantine", "scores", "genres", "confusion", "training",
        "model",
    }  # fmt: skip
    assert sections <= set(full.ids)
    assert {str(a["href"]) for tag, a in full.elements if tag == "a"} == {f"#{section}" for section in sections}


def test_no_id_stands_twice_and_every_reference_has_its_target(full: Page, full_html: str) -> None:
    assert len(full.ids) == len(set(full.ids))
    targets = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"|aria-labelledby="([^"]+)"', full_html)
    assert len(targets) > 10
    assert {name for found in targets for name in found if name} <= set(full.ids)


def test_a_page_without_content_has_no_section() -> None:
    page = Page(render_report(ReportContent(title="Nothing yet")))
    assert page.ids == []
    assert "section" not in page.tags()


@pytest.mark.parametrize(
    ("content", "there", "absent"),
    [
        (ReportContent("t", scores=SCORES), {"scores", "confusion"}, {"training", "labels", "quarantine", "model"}),
        (ReportContent("t", history=HISTORY), {"training"}, {"scores", "labels", "model"}),
        (
            ReportContent("t", labels_run=RUN),
            {"labels", "quarantine"},
            {"scores", "training", "model", "flips", "confidence"},
        ),
        (ReportContent("t", model={"Seed": "1"}), {"model"}, {"scores", "training", "labels"}),
    ],
)
def test_a_section_without_content_is_left_out(content: ReportContent, there: set[str], absent: set[str]) -> None:
    ids = set(Page(render_report(content)).ids)
    assert there <= ids
    assert not absent & ids


def test_the_confusion_matrix_has_the_counts_and_shades(full_html: str) -> None:
    cells = re.findall(
        r'<td class="(right|wrong)( zero)?"(?: style="--s:([\d.]+)" title="([^"]*)")?>(\d+)</td>', full_html
    )
    assert [int(cell[4]) for cell in cells] == [1, 1, 0, 1, 2, 0, 0, 0, 0]
    assert [cell[0] for cell in cells] == [
        "right",
        "wrong",
        "wrong",
        "wrong",
        "right",
        "wrong",
        "wrong",
        "wrong",
        "right",
    ]
    assert float(cells[4][2]) == pytest.approx((2 / 3) ** 0.5, abs=1e-3)
    assert cells[3][3] == "folk answered as blues: 1 of 3 (33.3\N{NO-BREAK SPACE}%)"


def test_genres_without_tracks_are_named(full: Page) -> None:
    assert "No track in this split: jazz. Not counted in macro-F1." in full.text
    assert "mean over 2 genres" in full.text


def test_genre_bars_are_sorted_and_scaled_to_the_longest() -> None:
    page = render_report(ReportContent("t", labels_run=RUN))
    part = page[page.index('id="mix-title"') : page.index('id="quarantine"')]
    assert re.findall(r'<th scope="row">(\w+)</th>', part) == ["blues", "folk", "jazz"]
    # Shares 0.75, 0.25 and 0; jazz has none but half of the training tracks.
    assert [float(v) for v in re.findall(r'class="meter" style="--v:([\d.]+)"', part)] == pytest.approx(
        [1, 1 / 3, 0], abs=1e-3
    )
    assert [float(t) for t in re.findall(r"--t:([\d.]+)", part)] == pytest.approx([1 / 3, 2 / 3], abs=1e-3)


def test_the_genre_mix_against_the_night_before(full_html: str) -> None:
    part = full_html[full_html.index('id="mix-title"') : full_html.index('id="confidence-title"')]
    rows = re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', part, re.S)
    changes = {genre: re.findall(r'class="n">([^<]*)<', cells)[2] for genre, cells in rows}
    # 55 % to 75 %, 45 % to 25 %.
    assert changes == {"blues": "+20.0", "folk": "\N{MINUS SIGN}20.0", "jazz": "0.0"}
    assert "since version 16" in part


def test_throughput_and_time_by_stage(full: Page) -> None:
    for words in (
        "Tracks a second 2.0 1,234 tracks in 10 min 17 s", "Audio 139 h 1 h 30 min of it decoded",
        "Read 3 MiB of 4 GiB", "Start-up 12.5 s", "8 cores 1 GPU", "fetch 1 min 0 s 15.0 %",
        "decode and features 5 min 0 s 75.0 %",
        "predict 40.0 s 10.0 %",
    ):  # fmt: skip
        assert words in full.text


def test_alarms_stand_above_everything_but_the_notices(full: Page, full_html: str) -> None:
    names = re.findall(r"<li>[^<]*<code>(\w+)</code></li>", full_html)
    assert names == [alarm.name for alarm in NIGHT.alarms] == [
        "genre_mix_last_night", "genre_mix_of_run", "genre_mix_training", "quarantined", "fetch_failed", "flips"
    ]  # fmt: skip
    assert "6 alarms" in full.text
    assert full_html.index("Synthetic corpus.") < full_html.index("6 alarms") < full_html.index("<nav")
    assert "confidence_drop not watched 0.0500" in full.text
    assert re.search(r"Not watched: .*confidence_drop ?, ", full.text)
    quiet = render_report(ReportContent("t", labels_run=RUN))
    assert re.findall(r"<li>[^<]*<code>(\w+)</code></li>", quiet) == RUN.alarms == []
    assert quiet.count("not watched") == len(RUN.unwatched) == len(RUN.watched)


def test_flips_and_overrides(full: Page) -> None:
    for words in (
        "Labelled again 400", "Changed genre 90 22.5 % of them", "From the same bytes 75 of 300 (25.0 %)",
        "folk blues 60", "jazz folk 30", "a/7.mp3 folk 0.91 blues 0.82",
        "Corrected tracks 50", "Model agrees 31", "Model disagrees 12", "No answer 7", "blues jazz 12",
        "a/8.mp3 blues jazz ann the sleeve says so", "a/9.mp3 no answer jazz bob",
    ):  # fmt: skip
        assert words in full.text


def test_the_confidence_of_the_run_is_drawn_over_that_of_the_night_before(full: Page) -> None:
    assert re.search(r"table: 0\.750; in this run.s tracks: 0\.560; in the table before: 0\.970\.", full.text)
    [label] = [str(a["aria-label"]) for tag, a in full.elements if tag == "svg"][:1]
    assert label == (
        "Confidence, shares of tracks: most tracks of this run from 0.50 to 0.55 (60.0%); "
        "most table before from 0.95 to 1.00 (100.0%)."
    )


def test_a_leak_stands_in_red_above_all_else() -> None:
    content = replace(FULL, leaks=["LEAK, asked for: 97.0 % <of the tracks>."], scores=replace(SCORES, unit="clips"))
    html = render_report(content)
    page = Page(html)
    assert page.text.index("LEAK, asked for: 97.0 % <of the tracks>.") < page.text.index("Synthetic corpus.")
    assert ("p", {"class": "notice leak", "role": "note"}) in page.elements
    assert "5 clips" in page.text
    assert "Numbers are clips" in page.text
    said = report_json(content)
    assert said["leaks"] == content.leaks
    assert said["scores"]["unit"] == "clips"
    assert "LEAK" not in Page(render_report(FULL)).text


def test_a_first_night_compares_with_nothing() -> None:
    first = replace(NIGHT, previous_version=None, previous_genre_counts=None, previous_confidence=None, flips=None)
    page = Page(render_report(ReportContent("t", labels_run=first)))
    assert "Change" not in page.text
    assert "table before" not in page.text
    assert not {"flips"} & set(page.ids)
    assert "table now" in str([a["aria-label"] for tag, a in page.elements if tag == "svg"])


def test_training_shares_that_nobody_gave_are_not_shown() -> None:
    page = Page(render_report(ReportContent("t", labels_run=replace(RUN, training_genre_share=None))))
    assert "In training" not in page.text
    assert "jazz" not in page.text


def test_tracks_without_music_are_no_failures() -> None:
    """They count apart from what could not be decoded, and both kinds that say so."""
    run = replace(RUN, first_tries={"": 90, "silent": 3, "not_music": 4, "too_short": 2, "fetch_failed": 1})
    seen = run.observed
    assert (seen.first_tries, seen.quarantined, seen.no_music, seen.fetch_failed) == (100, 10, 7, 1)


@pytest.mark.parametrize("of_tags", [False, True])
def test_the_page_says_what_confidence_is(of_tags: bool) -> None:
    page = render_report(replace(FULL, of_tags=of_tags))
    part = page[page.index('id="confidence-title"') : page.index('id="quarantine"')]
    assert ("share of what speaks for any genre" in part) == of_tags
    assert ("probability of its own answer" in part) != of_tags


def test_an_empty_quarantine_and_an_empty_table_are_said() -> None:
    run = replace(RUN, genre_counts={}, training_genre_share=None, quarantine_by_kind={}, quarantine=[])
    text = Page(render_report(ReportContent("t", labels_run=run))).text
    assert "No track is quarantined." in text
    assert "No track has a label." in text


def test_the_callers_total_of_the_quarantine_goes_first() -> None:
    run = replace(RUN, quarantine_total=211)
    assert "1 of the 211 tracks" in Page(render_report(ReportContent("t", labels_run=run))).text


def test_headers_figures_and_language_are_accessible(full: Page) -> None:
    assert ("html", {"lang": "en"}) in full.elements
    assert [a for tag, a in full.elements if tag == "th" and a.get("scope") not in {"row", "col"}] == []
    figures = [a for tag, a in full.elements if tag == "svg"]
    assert [a["role"] for a in figures] == ["img", "img", "img"]
    figures = figures[1:]
    assert str(figures[0]["aria-label"]) == "Loss over epochs 1 to 3: validation from 2.1 to 1.9; train from 2 to 1.5."
    assert str(figures[1]["aria-label"]).startswith("Accuracy over epochs 1 to 3: validation from 25.0% to 40.0%;")


def test_figures_take_every_colour_from_the_page(full_html: str) -> None:
    svgs = re.findall(r"<svg.*?</svg>", full_html, re.S)
    assert len(svgs) == 3
    for svg in svgs:
        assert "var(--series-1)" in svg
        assert not re.search(r"#[0-9a-f]{6}\b", svg)


@pytest.mark.parametrize(
    ("history", "figures"),
    [
        ([EpochRow(1, train_loss=2.0)], 1),
        ([EpochRow(1), EpochRow(2)], 0),
        ([EpochRow(1, train_loss=float("inf"), validation_accuracy=float("nan"))], 0),
        ([EpochRow(epoch, 1.0, validation_accuracy=0.5 if epoch % 5 == 0 else None) for epoch in range(60)], 2),
    ],
)
def test_curves_of_incomplete_histories(history: list[EpochRow], figures: int) -> None:
    html = render_report(ReportContent("t", history=history))
    assert html.count("<svg") == figures
