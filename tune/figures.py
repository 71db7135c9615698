"""Figures of a search, in the style of the evaluation report: inline SVG that takes its colours from the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import JsonValue

from mgc.evaluation.figures import (
    GRID,
    PAGE,
    SERIES_COLOURS,
    TEXT,
    WIDTH_INCHES,
    dress,
    house_figure,
    inline,
    legend,
    percents,
)
from mgc.recipes.space import Alternatives, AnyDimension, Choice, LogUniform, value_text
from mgc.units import format_count
from tune.records import SearchRecord, TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS: Final = {"macro_f1": "validation macro-F1", "accuracy": "validation accuracy", "loss": "validation loss"}
"""Readable names of the scores."""

_BEST, _OTHERS, _FAILED = SERIES_COLOURS[1], SERIES_COLOURS[0], TEXT
_LONGEST_WORD: Final = 16


def parallel_svg(search: SearchRecord) -> str | None:
    """Return a parallel-coordinates plot: one line per trial, through its value of each dimension to its score.

    The best trial has a colour of its own.

    Returns:
        An `<svg>` element, or None if no trial has a score.
    """
    scored = [trial for trial in reversed(search.ranked) if trial.score is not None]
    if not scored:
        return None
    names = list(search.space.dimensions)
    places = {name: _place(search.space.dimensions[name]) for name in names}
    scores = [trial.score for trial in scored if trial.score is not None]
    low, high = min(scores), max(scores)
    span = (high - low) or 1.0
    with house_figure("parallel", 4.6, 2 * WIDTH_INCHES) as figure:
        axes = figure.add_subplot()
        for number in range(len(names) + 1):
            axes.axvline(number, color=GRID, linewidth=1.0, zorder=0)
        for trial in scored:
            assert trial.score is not None
            worth = (trial.score - low) / span
            ys = [places[name](trial.point[name]) for name in names] + [worth]
            best = trial is search.best
            # Better trials are darker. The shade shows the score, because a rank would hide how close trials are.
            good = 1 - worth if search.falls else worth
            axes.plot(
                range(len(ys)),
                ys,
                color=_BEST if best else _OTHERS,
                alpha=1.0 if best else 0.15 + 0.6 * good**2,
                linewidth=2.2 if best else 1.1,
                zorder=3 if best else 2,
            )
        for number, name in enumerate(names):
            _mark(axes, number, search.space.dimensions[name])
        text = {"ha": "left", "va": "center", "color": TEXT, "fontsize": 8.0}
        for y, value in ((0.0, low), (1.0, high)):
            axes.text(len(names) + 0.06, y, f"{value:.3f}", **text)
        axes.set_xticks(range(len(names) + 1), [*(_short(name) for name in names), METRICS[search.metric]])
        axes.tick_params(axis="x", colors=TEXT, length=0, labelsize=8.5, labelrotation=40 if len(names) > 4 else 0)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right" if len(names) > 4 else "center")
            label.set_rotation_mode("anchor" if len(names) > 4 else "default")
        axes.set_yticks([])
        axes.set_ylim(-0.06, 1.06)
        axes.set_xlim(-0.3, len(names) + 0.8)
        for spine in axes.spines.values():
            spine.set_visible(False)
        trials = format_count(len(scored), "trial")
        said = f"Parallel coordinates of {trials} over {', '.join(map(_short, names))} and the score."
        return inline(figure, "parallel", said)


def learning_svg(search: SearchRecord) -> str | None:
    """Plot the score of the epoch kept so far after each epoch, one line per trial. Returns None without scores."""
    drawn = [trial for trial in reversed(search.ranked) if trial.history]
    if not drawn:
        return None
    with house_figure("learning") as figure:
        axes = figure.add_subplot()
        for trial in drawn:
            best = trial is search.best
            measured = [(row["epoch"], row["score"]) for row in trial.history if row["score"] is not None]
            axes.plot(
                [epoch for epoch, _ in measured],
                [score if math.isfinite(score) else math.nan for _, score in measured],
                color=_BEST if best else _OTHERS,
                alpha=1.0 if best else 0.45,
                linewidth=2.0 if best else 1.0,
                label=f"trial {trial.number}, the best" if best else None,
                marker="o" if len(measured) == 1 else None,
                markersize=2.5,
                zorder=3 if best else 2,
            )
        _integers(axes)
        axes.set_xlabel("epoch", color=TEXT)
        _scores(axes, search)
        dress(axes)
        legend(figure)
        return inline(
            figure, "learning", f"{METRICS[search.metric]} over the epochs of {format_count(len(drawn), 'trial')}."
        )


def cost_svg(search: SearchRecord) -> str | None:
    """Plot each trial's score against its seconds of training, with the best score for each cost.

    Returns:
        An `<svg>` element, or None if no trial has a score.
    """
    scored = [trial for trial in search.trials if trial.score is not None]
    if not scored:
        return None
    with house_figure("cost") as figure:
        axes = figure.add_subplot()
        marks: Sequence[tuple[str, str, str]] = (
            ("done", "o", "trained to the end"), ("stopped", "v", "stopped early"),
            ("unfinished", "s", "out of time"), ("failed", "x", "failed later"),
        )  # fmt: skip
        for status, marker, label in marks:
            mine = [trial for trial in scored if trial.status == status]
            if mine:
                axes.plot(
                    [trial.seconds for trial in mine], [trial.score for trial in mine], linestyle="none", marker=marker,
                    markersize=4.5, alpha=0.8, label=label, color=_FAILED if status == "failed" else _OTHERS,
                )  # fmt: skip
        front = _front(scored, search.falls)
        axes.plot(
            [trial.seconds for trial in front], [trial.score for trial in front],
            drawstyle="steps-post", color=_BEST, linewidth=1.4, label="best for the cost",
        )  # fmt: skip
        if search.best is not None:
            axes.plot([search.best.seconds], [search.best.score], marker="o", markersize=6, color=_BEST)
        axes.set_xlabel("seconds of training", color=TEXT)
        axes.set_xlim(left=0)
        _scores(axes, search)
        dress(axes)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=TEXT, handlelength=1.8)
        return inline(
            figure,
            "cost",
            f"{METRICS[search.metric]} of {format_count(len(scored), 'trial')} against seconds of training.",
        )


def _front(scored: Sequence[TrialRecord], falls: bool) -> list[TrialRecord]:
    """Return the trials that score better than every cheaper trial."""
    front: list[TrialRecord] = []
    for trial in sorted(scored, key=lambda each: each.seconds):
        if trial.score is None:
            continue
        before = front[-1].score if front else None
        if before is None or (trial.score < before if falls else trial.score > before):
            front.append(trial)
    return front


def _scores(axes: Axes, search: SearchRecord) -> None:
    if search.metric == "accuracy":
        axes.yaxis.set_major_formatter(percents())
    axes.set_ylabel(METRICS[search.metric], color=TEXT)


def _integers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def _short(name: str) -> str:
    """Return the last part of a field's name."""
    return name.rpartition(".")[2].replace("_", " ")


def _place(dimension: AnyDimension) -> Callable[[Any], float]:
    """Return a function that maps a value of the dimension to its place on the axis, 0 to 1."""
    if isinstance(dimension, Choice | Alternatives):
        values = list(dimension.values if isinstance(dimension, Choice) else dimension.options)
        return lambda value: values.index(value) / max(len(values) - 1, 1)
    low, high = dimension.low, dimension.high
    if isinstance(dimension, LogUniform):
        return lambda value: math.log(value / low) / math.log(high / low)
    return lambda value: (value - low) / (high - low)


def _mark(axes: Axes, number: int, dimension: AnyDimension) -> None:
    """Write the values of a choice, or the ends of a range, next to their axis."""
    place = _place(dimension)
    if isinstance(dimension, Choice):
        values: list[JsonValue] = list(dimension.values)
    elif isinstance(dimension, Alternatives):
        values = list(dimension.options)
    else:
        values = [dimension.low, dimension.high]
    for value in values:
        word = value_text(value)
        word = word if len(word) <= _LONGEST_WORD else word[: _LONGEST_WORD - 1] + "\N{HORIZONTAL ELLIPSIS}"
        beneath = {"facecolor": PAGE, "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
        axes.text(number + 0.05, place(value), word, va="center", color=TEXT, fontsize=7.5, zorder=4, bbox=beneath)
