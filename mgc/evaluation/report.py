"""The report: one HTML page that needs nothing but itself.

A caller describes what the page shows in the frozen dataclasses below; `render_report` makes the page. It holds no
script and loads nothing: its content security policy forbids both. All text is escaped, and whatever looks like a
credential in a URI is left out, since a report is made to be passed on.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import JsonValue

from mgc.configuration import JsonObject, to_json
from mgc.credentials import without_credentials
from mgc.evaluation.alarms import shares, watched
from mgc.evaluation.calibration import Calibration
from mgc.evaluation.embedding_map import EmbeddingMap
from mgc.evaluation.figures import Curve, curves_svg, histogram_svg
from mgc.evaluation.intervals import FEW_GROUPS, REPLICATES, Interval
from mgc.evaluation.night import LabelsRun
from mgc.evaluation.robustness import Robustness
from mgc.evaluation.score_figures import calibration_svg, map_figure, robustness_svg
from mgc.evaluation.scores import Scores
from mgc.evaluation.shots import ShotScore, shots_to_json
from mgc.units import format_bytes, format_duration

FORMAT_VERSION: Final = 1
"""Version of a report's JSON."""

_LONGEST_TEXT: Final = 400
_CONFUSIONS_NAMED: Final = 5
_NONE: Final = "\N{EN DASH}"

# Control characters, marks that turn the direction of text around, and surrogates, which stand for the bytes of file
# names that are not UTF-8 and which UTF-8 cannot write.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class EpochRow:
    """What was measured after one epoch; None where it was not. Accuracies and F1 are 0 to 1."""

    epoch: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    validation_macro_f1: float | None = None


@dataclass(frozen=True)
class ReportContent:
    """All that the page shows. A section without content is left out.

    Attributes:
        title: heading and title of the page.
        leaks: shown in red above all else: what was scored and yet trained on, because someone asked for it.
        notices: shown in a box at the top: a synthetic corpus, a licence to heed.
        model: facts about the model, name → value, in the order to show: bundle, recipe, features, parameters, seed.
        scores: the model's scores on one split.
        split_name: the split that `scores` is of.
        split_description: what that split holds, and how it was kept apart from training.
        history: one row an epoch.
        labels_run: a run of the `label` job.
        calibration: confidence against accuracy, on the same split.
        robustness: accuracy with pixels zeroed, on the same split.
        embedding_map: tracks of the same split as the network sees them.
        shots: accuracy of the genres by how much training they had, on the same split.
        kept_epoch: the epoch of `history` whose weights the model has; None where nobody noted it.
    """

    title: str
    notices: Sequence[str] = ()
    model: Mapping[str, str] = field(default_factory=dict)
    scores: Scores | None = None
    split_name: str = "test"
    split_description: str = ""
    history: Sequence[EpochRow] = ()
    labels_run: LabelsRun | None = None
    leaks: Sequence[str] = ()
    calibration: Calibration | None = None
    robustness: Robustness | None = None
    embedding_map: EmbeddingMap | None = None
    shots: Sequence[ShotScore] = ()
    kept_epoch: int | None = None


def page_environment(*packages: str) -> Environment:
    """What a page of the house is made with: its filters, all values escaped and cleaned, its style (`style.html`).

    Args:
        packages: whose own templates are found, before those of this room.
    """
    environment = Environment(
        loader=ChoiceLoader([*(PackageLoader(name, "") for name in packages), PackageLoader("mgc", "evaluation")]),
        autoescape=True,
        undefined=StrictUndefined,
        # Every value that the template prints passes through here, so none can be forgotten.
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent, number=_number, count=_count, moment=_moment, duration=format_duration,
        uri=without_credentials, short=_short, points=_points, bytes=format_bytes, ends=_ends,
    )  # fmt: skip
    return environment


def render_report(content: ReportContent) -> str:
    """Make the page. The same content gives the same text.

    Returns:
        A whole HTML document that can be written as UTF-8.
    """
    environment = page_environment()
    scores, run = content.scores, content.labels_run
    unit = scores.unit if scores else "tracks"
    drawn = content.embedding_map and map_figure(content.embedding_map)
    return environment.get_template("report.html").render(
        content=content,
        scores=scores,
        run=run,
        confusions=_largest_confusions(scores) if scores else [],
        absent=[row.genre for row in scores.per_genre if not row.support] if scores else [],
        replicates=REPLICATES,
        few_groups=FEW_GROUPS,
        figures=_training_figures(content.history, content.kept_epoch),
        validated=any(row.validation_loss is not None for row in content.history),
        reliability=content.calibration and Markup(calibration_svg(content.calibration, unit)),
        noise=content.robustness and Markup(robustness_svg(content.robustness)),
        drawn_map=drawn,
        map_svg=drawn and Markup(drawn.svg),
        bars=_genre_bars(run) if run else [],
        histogram=_confidence_figure(run) if run else None,
        **(_about(run) if run else {}),
    )


def report_json(content: ReportContent) -> JsonObject:
    """What the page shows, as JSON-ready values. Its texts hold no credentials.

    Returns:
        Where there is a labels run, everything of `LabelsRun.to_json`, and

        - `format_version`: 1
        - `title`: of the page
        - `notices`: a licence to heed, a synthetic corpus
        - `leaks`: what was scored and yet trained on, a sentence each
        - `model`: facts about the model, name → text
        - `scores`, or null where the model was never scored: `split`, `description`, and what `Scores` has
        - `history`: one object an epoch, what `EpochRow` has
        - `kept_epoch`: of these, the one whose weights the model has, or null
        - `calibration`, `robustness`, `embedding_map`, where they were measured: what `Calibration`, `Robustness` and
          `EmbeddingMap` have
        - `shots`: many-, medium- and few-shot genres, what `ShotScore` has; where the counts of training are known
    """
    scores, run = content.scores, content.labels_run
    measured = {name: getattr(content, name) for name in ("calibration", "robustness", "embedding_map")}
    values = {
        "format_version": FORMAT_VERSION,
        "title": content.title,
        "notices": content.notices,
        "leaks": content.leaks,
        "model": content.model,
        "scores": scores
        and {
            "split": content.split_name,
            "description": content.split_description,
            **scores.to_json(),
        },
        "history": [dataclasses.asdict(row) for row in content.history],
        "kept_epoch": content.kept_epoch,
        **{name: to_json(value) for name, value in measured.items() if value is not None},
        **({"shots": shots_to_json(content.shots)} if content.shots else {}),
        **(run.to_json() if run else {}),
    }
    return {name: _json_ready(value) for name, value in values.items()}


def _json_ready(value: object) -> JsonValue:
    """The same without credentials in its texts, and without numbers that JSON has not: they become null."""
    if isinstance(value, Mapping):
        return {str(name): _json_ready(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return without_credentials(value)
    if value is None or isinstance(value, int):
        return value
    raise TypeError(f"{type(value).__name__} is not JSON")


def _printable(value: object) -> object:
    """A value as the page may show it: no credentials, nothing invisible, nothing that UTF-8 cannot write."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), without_credentials(value))


def _short(text: str) -> str:
    # Credentials go first: cut in the middle, they would no longer be recognised.
    text = without_credentials(text)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _percent(share: float | None, digits: int = 1) -> str:
    return _NONE if share is None else f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _points(after: float, before: float | None) -> str:
    """A change of a share, in percentage points."""
    if before is None:
        return _NONE
    text = f"{100 * (after - before):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def _ends(interval: Interval | None, digits: int = 0, percent: bool = True) -> str:
    """An interval of a share, in percent without the sign, or as the share itself."""
    if interval is None:
        return _NONE
    low, high = (f"{(100 if percent else 1) * end:.{digits}f}" for end in (interval.low, interval.high))
    return f"{low}\N{EN DASH}{high}"


def _number(value: float | None, digits: int = 3) -> str:
    return _NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _moment(iso: str) -> str:
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()


@dataclass(frozen=True)
class _Confusion:
    genre: str
    answer: str
    tracks: int
    support: int


def _largest_confusions(scores: Scores) -> list[_Confusion]:
    found = [
        _Confusion(scores.genres[t], scores.genres[a], tracks, sum(row))
        for t, row in enumerate(scores.confusion)
        for a, tracks in enumerate(row)
        if t != a and tracks
    ]
    return sorted(found, key=lambda c: (-c.tracks, c.genre, c.answer))[:_CONFUSIONS_NAMED]


def _training_figures(history: Sequence[EpochRow], kept: int | None) -> list[tuple[str, Markup]]:
    epochs = [row.epoch for row in history]
    drawn = {
        "Loss": curves_svg(
            "loss",
            epochs,
            [
                Curve("validation", [row.validation_loss for row in history]),
                Curve("train", [row.train_loss for row in history]),
            ],
            share=False,
            kept=kept,
        ),
        "Accuracy and macro-F1": curves_svg(
            "accuracy",
            epochs,
            [
                Curve("validation", [row.validation_accuracy for row in history]),
                Curve("train", [row.train_accuracy for row in history]),
                Curve("validation macro-F1", [row.validation_macro_f1 for row in history]),
            ],
            share=True,
            kept=kept,
        ),
    }
    # matplotlib escapes its own text, and the names drawn are ours.
    return [(caption, Markup(svg)) for caption, svg in drawn.items() if svg is not None]


def _confidence_figure(run: LabelsRun) -> Markup | None:
    """The run's tracks as bars and the table before it as an outline; the table where one of them has no tracks."""
    mine, table, before = run.run_confidence, run.confidence, run.previous_confidence
    named = [
        (name, of)
        for name, of in (("tracks of this run", mine), ("table before", before), ("table now", table))
        if of is not None and of.tracks
    ][:2]
    svg = histogram_svg("confidence", [(name, [n / of.tracks for n in of.counts]) for name, of in named])
    return None if svg is None else Markup(svg)


def _about(run: LabelsRun) -> dict[str, Any]:
    """What the sections of a labels run print besides the run itself."""
    counts, total = run.counts, run.quarantined
    reasons = {"new": counts.new, "changed": counts.changed, "of another model": counts.stale, "again": counts.retried}
    part = len(run.quarantine) < total
    seen = watched(run.observed, run.limits)
    return {
        "watched": seen if any(value is not None for value in seen.values()) else {},
        "planned": ", ".join(f"{_count(tracks)} {reason}" for reason, tracks in reasons.items() if tracks),
        "examples": [row for rows in run.quarantine_examples.values() for row in rows],
        "listed": f"{_count(len(run.quarantine))} of the {_count(total)} tracks" if part else "All tracks",
    }


@dataclass(frozen=True)
class _Bar:
    """A genre's line in the table of genres. Shares are 0 to 1, `width` and `tick` shares of the longest bar."""

    genre: str
    tracks: int
    share: float
    previous_share: float | None
    training_share: float | None
    width: float
    tick: float | None


def _genre_bars(run: LabelsRun) -> list[_Bar]:
    """The genres of the table, of last night and of the training set, most frequent first."""
    training, before = run.training_genre_share or {}, shares(run.previous_genre_counts or {})
    now = shares(run.genre_counts)
    genres = dict.fromkeys([*run.genre_counts, *training, *before])
    longest = max([*now.values(), *training.values()], default=0.0) or 1.0
    bars = [
        _Bar(
            genre=genre,
            tracks=run.genre_counts.get(genre, 0),
            share=now.get(genre, 0.0),
            previous_share=before.get(genre, 0.0) if before else None,
            training_share=training.get(genre),
            width=now.get(genre, 0.0) / longest,
            tick=training[genre] / longest if genre in training else None,
        )
        for genre in genres
    ]
    return sorted(bars, key=lambda bar: (-bar.share, bar.genre))
