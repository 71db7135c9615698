"""The report: one self-contained HTML page.

A caller describes the contents in the frozen dataclasses below; `render_report` makes the page. The page has no script
and loads nothing: its content security policy forbids both. All text is escaped. Anything that looks like a credential
in a URI is left out, since reports are made to be shared.
"""

from __future__ import annotations

import dataclasses
import functools
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
from mgc.evaluation.alarms import shares
from mgc.evaluation.calibration import Calibration
from mgc.evaluation.embedding_map import EmbeddingMap
from mgc.evaluation.figures import Curve, curves_svg, histogram_svg
from mgc.evaluation.intervals import FEW_GROUPS, REPLICATES, Interval
from mgc.evaluation.night import LabelsRun
from mgc.evaluation.robustness import Robustness
from mgc.evaluation.score_figures import calibration_svg, map_figure, robustness_svg
from mgc.evaluation.scores import Scores
from mgc.evaluation.shots import ShotScore, shots_to_json
from mgc.units import format_bytes, format_count, format_duration

FORMAT_VERSION: Final = 1
"""Version of a report's JSON."""

_LONGEST_TEXT: Final = 400
_CONFUSIONS_NAMED: Final = 5
_NONE: Final = "\N{EN DASH}"

# Control characters, marks that reverse the direction of text, and surrogates. Surrogates stand for bytes of file names
# that are not UTF-8; UTF-8 cannot encode them.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class EpochRow:
    """The figures of one epoch; None if not measured. Accuracies and F1 are 0 to 1."""

    epoch: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    validation_macro_f1: float | None = None


@dataclass(frozen=True)
class ReportContent:
    """The contents of the page. Sections without content are left out.

    Attributes:
        title: heading and title of the page.
        leaks: warnings, in red above everything else, that scored music was trained on (only if a user allowed it).
        notices: notices in a box at the top, for example of a synthetic corpus or a licence to respect.
        model: facts about the model, name → value, in the order to show: bundle, recipe, features, parameters, seed.
        scores: scores of the model on one split.
        split_name: split of `scores`.
        split_description: contents of that split, and how it was kept apart from training.
        history: one row per epoch.
        labels_run: run of the `label` job.
        calibration: confidence against accuracy, on the same split.
        robustness: accuracy with pixels zeroed, on the same split.
        embedding_map: map of the embeddings of the same split's tracks.
        shots: accuracy of the genres by amount of training data, on the same split.
        kept_epoch: epoch of `history` whose weights the model has; None if it was not recorded.
        of_tags: whether the model answers with tags that speak for genres. Then its confidence is a share of them.
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
    of_tags: bool = False


@functools.cache
def page_environment(*packages: str) -> Environment:
    """Return the template environment of mgc's pages: filters, escaping and cleaning of all values, and `style.html`.

    It keeps the templates that it has compiled.

    Args:
        packages: packages whose templates are searched before those of this one.
    """
    environment = Environment(
        loader=ChoiceLoader([*(PackageLoader(name, "") for name in packages), PackageLoader("mgc", "evaluation")]),
        autoescape=True,
        undefined=StrictUndefined,
        # Every value that a template prints passes through here, so none can be forgotten.
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent, number=_number, count=_count, moment=_moment, duration=format_duration,
        things=format_count, uri=without_credentials, short=_short, points=_points, bytes=format_bytes, ends=_ends,
    )  # fmt: skip
    return environment


def render_report(content: ReportContent) -> str:
    """Render the page. The same content gives the same text.

    Returns:
        A complete HTML document that can be written as UTF-8.
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
    """Return the contents of the page as JSON-ready values, without credentials.

    Returns:
        All of `LabelsRun.to_json` if there is a labels run, and

        - `format_version`: 1
        - `title`: title of the page
        - `notices`: notices of a synthetic corpus or a licence to respect
        - `leaks`: sentences about scored music that was trained on
        - `model`: facts about the model, name → text
        - `scores`, or null if the model was never scored: `split`, `description`, and the fields of `Scores`
        - `history`: one object per epoch, with the fields of `EpochRow`
        - `kept_epoch`: epoch of `history` whose weights the model has, or null
        - `calibration`, `robustness`, `embedding_map`, if measured: the fields of `Calibration`, `Robustness` and
          `EmbeddingMap`
        - `shots`, if training counts are known: many-, medium- and few-shot genres, with the fields of `ShotScore`
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
    """Return the same value with credentials removed from texts, and with null for numbers that JSON does not have."""
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
    """Return a value as the page may show it: no credentials, nothing invisible, nothing that UTF-8 cannot write."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), without_credentials(value))


def _short(text: str) -> str:
    # Remove credentials first: if cut in the middle, they would not be recognised.
    text = without_credentials(text)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _percent(share: float | None, digits: int = 1) -> str:
    return _NONE if share is None else f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _points(after: float, before: float | None) -> str:
    """Format a change of a share, in percentage points."""
    if before is None:
        return _NONE
    text = f"{100 * (after - before):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def _ends(interval: Interval | None, digits: int = 0, percent: bool = True) -> str:
    """Format an interval of a share, in percent without the sign or as the share itself."""
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
    """Draw the run's tracks as bars and the table before it as an outline; if either is empty, add the table now."""
    mine, table, before = run.run_confidence, run.confidence, run.previous_confidence
    named = [
        (name, of)
        for name, of in (("tracks of this run", mine), ("table before", before), ("table now", table))
        if of is not None and of.tracks
    ][:2]
    svg = histogram_svg("confidence", [(name, [n / of.tracks for n in of.counts]) for name, of in named])
    return None if svg is None else Markup(svg)


def _about(run: LabelsRun) -> dict[str, Any]:
    """Return the values that the sections of a labels run print besides the run itself."""
    counts, total = run.counts, run.quarantined
    reasons = {
        "new": counts.new,
        "changed": counts.changed,
        "by another model": counts.other_model,
        "again": counts.retried,
    }
    part = len(run.quarantine) < total
    return {
        "watched": run.watched,
        "unwatched": {each.name: each.reason for each in run.unwatched},
        "planned": ", ".join(f"{_count(tracks)} {reason}" for reason, tracks in reasons.items() if tracks),
        "examples": [row for rows in run.quarantine_examples.values() for row in rows],
        "listed": f"{_count(len(run.quarantine))} of the {_count(total)} tracks" if part else "All tracks",
    }


@dataclass(frozen=True)
class _Bar:
    """A genre's line in the table of genres. Shares are 0 to 1; `width` and `tick` are shares of the longest bar."""

    genre: str
    tracks: int
    share: float
    previous_share: float | None
    training_share: float | None
    width: float
    tick: float | None


def _genre_bars(run: LabelsRun) -> list[_Bar]:
    """Return the genres of the table, of last night and of the training set, most frequent first."""
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
