"""The report of a search: one self-contained HTML page."""

from __future__ import annotations

from collections import Counter
from typing import Final

from markupsafe import Markup
from pydantic import JsonValue

from mgc.evaluation.report import page_environment
from mgc.recipes.space import Alternatives, AnyDimension, Choice, value_text
from mgc.units import format_count
from tune.figures import METRICS, cost_svg, learning_svg, parallel_svg
from tune.importance import FEWEST_TRIALS, LIMITS, importance
from tune.records import SearchRecord, Status

_STATUS: Final[dict[Status, str]] = {
    "done": "trained to the end",
    "stopped": "stopped early",
    "failed": "failed",
    "unfinished": "out of time",
}


def render_search(search: SearchRecord) -> str:
    """Return the page. The same search gives the same text.

    Returns:
        A complete HTML document, to write as UTF-8.
    """
    counts = Counter(trial.status for trial in search.trials)
    # matplotlib escapes its own text.
    drawn = {name: svg and Markup(svg) for name, svg in _figures(search).items()}
    return (
        page_environment("tune")
        .get_template("report.html")
        .render(
            search=search,
            title=f"{search.recipe}: search of {format_count(len(search.trials), 'trial')}",
            metric=METRICS[search.metric],
            counts={words: counts[status] for status, words in _STATUS.items() if counts[status]},
            status=_STATUS,
            names={name: name.rpartition(".")[2].replace("_", " ") for name in search.space.dimensions},
            space={name: _described(dimension) for name, dimension in search.space.dimensions.items()},
            text=value_text,
            importance=importance(search),
            limits=LIMITS,
            fewest=FEWEST_TRIALS,
            trained=sum(trial.seconds for trial in search.trials),
            **drawn,
        )
    )


def _figures(search: SearchRecord) -> dict[str, str | None]:
    return {"parallel": parallel_svg(search), "learning": learning_svg(search), "cost": cost_svg(search)}


def _described(dimension: AnyDimension) -> str:
    """Return a dimension in words."""
    values: list[JsonValue]
    match dimension:
        case Choice():
            values = list(dimension.values)
            return f"one of {'; '.join(map(value_text, values))}"
        case Alternatives():
            return f"one of {'; '.join(dimension.options)}"
        case _:
            words = {"uniform": "", "log_uniform": ", by its logarithm", "integer": ", whole numbers"}
            return f"{value_text(dimension.low)} to {value_text(dimension.high)}{words[dimension.kind]}"
