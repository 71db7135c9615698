"""Figures of a model's scores: calibration, robustness, and the map of embeddings, in the style of `figures`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from mgc.evaluation.calibration import Calibration
from mgc.evaluation.embedding_map import EmbeddingMap
from mgc.evaluation.figures import GRID, SERIES_COLOURS, TEXT, dress, house_figure, inline, legend, percents
from mgc.evaluation.intervals import Interval
from mgc.evaluation.robustness import Robustness
from mgc.units import format_count

_TALL_INCHES: Final = 3.9

_MAP_WIDTH: Final = 640.0
_MAP_HEIGHTS: Final = (320.0, 640.0)
_MAP_MARGIN: Final = 8.0
_MAP_COLOURS: Final = 8
"""Number of map colours on the page, after Okabe and Ito's palette for colour-blind readers."""

_MARKS: Final = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z",
    "M-2.9-2.9h5.8v5.8h-5.8z",
    "M0-3.9l3.6 6.2h-7.2z",
    "M0-4.1l3.7 4.1l-3.7 4.1l-3.7-4.1z",
    "M0 3.9l3.6-6.2h-7.2z",
)
"""Circle, square, triangle, diamond and inverted triangle: five shapes in eight colours make 40 different marks."""

_GENRES_MARKED: Final = 20
"""Most marks that readers can tell apart; the rarest genres share one."""


@dataclass(frozen=True)
class MapFigure:
    """A drawn map.

    Attributes:
        svg: SVG element.
        legend: for every mark its id in the SVG, its genre (None for all others), and its number of tracks.
        right: id of a mark without a genre, for a correctly answered track.
        wrong: id of a mark without a genre, for a wrongly answered track.
    """

    svg: str
    legend: tuple[tuple[str, str | None, int], ...]
    right: str
    wrong: str


def calibration_svg(calibration: Calibration, unit: str) -> str:
    """Draw the reliability diagram: the accuracy of each confidence bin with its interval, and below it the bin's size.

    Args:
        calibration: calibration to draw.
        unit: unit of the score, in the plural.
    """
    filled = [each for each in calibration.bins if each.accuracy is not None]
    with house_figure("calibration", _TALL_INCHES) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        width = calibration.bins[0].high
        above.bar(
            [each.low for each in filled],
            [each.accuracy for each in filled],
            width,
            align="edge",
            label="accuracy, 95\N{NO-BREAK SPACE}% interval",
            color=SERIES_COLOURS[0],
            alpha=0.55,
        )
        known = [(each.low + width / 2, each.accuracy, each.accuracy_interval) for each in filled]
        _whiskers(above, known)
        above.plot(
            [0, 1], [0, 1], label="accuracy = confidence", color=SERIES_COLOURS[1], linestyle="dashed", linewidth=1.5
        )
        above.set_ylim(0, 1.04)
        above.set_ylabel("accuracy", color=TEXT)
        below.bar(
            [each.low for each in filled],
            [each.tracks for each in filled],
            width,
            align="edge",
            color=SERIES_COLOURS[0],
        )
        below.set_ylabel(unit, color=TEXT)
        below.set_xlim(-0.02, 1.02)
        below.set_xlabel("confidence: probability of the answer", color=TEXT)
        above.yaxis.set_major_formatter(percents())
        below.xaxis.set_major_formatter(percents())
        for axes in (above, below):
            dress(axes)
        legend(figure)
        figure.align_ylabels()
        # Adjacent bars of one colour would merge.
        for bar in (*above.patches, *below.patches):
            bar.set_edgecolor(GRID)
        said = (
            f"Reliability diagram: accuracy {calibration.accuracy:.1%} at a mean confidence of "
            f"{calibration.confidence:.1%}; expected calibration error {calibration.expected_error:.1%}."
        )
        return inline(figure, "calibration", said)


def robustness_svg(robustness: Robustness) -> str:
    """Draw the accuracy over the share of zeroed pixels."""
    points = robustness.points
    with house_figure("robustness") as figure:
        axes = figure.add_subplot()
        zeroed = [point.zeroed for point in points]
        axes.plot(
            zeroed,
            [point.accuracy for point in points],
            label="accuracy, 95\N{NO-BREAK SPACE}% interval",
            color=SERIES_COLOURS[0],
            linewidth=1.8,
            marker="o",
            markersize=4.5,
        )
        _whiskers(axes, [(point.zeroed, point.accuracy, point.accuracy_interval) for point in points])
        axes.axhline(robustness.chance, label="chance", color=SERIES_COLOURS[1], linestyle="dashed", linewidth=1.5)
        axes.set_xticks(zeroed)
        axes.set_xlim(-0.04, max(zeroed) + 0.04)
        axes.set_ylim(0, 1.04)
        axes.set_xlabel("share of pixels set to zero", color=TEXT)
        axes.set_ylabel("accuracy", color=TEXT)
        axes.xaxis.set_major_formatter(percents())
        axes.yaxis.set_major_formatter(percents())
        dress(axes)
        legend(figure)
        parts = [f"{point.accuracy:.1%} with {point.zeroed:.0%} zeroed" for point in points]
        return inline(figure, "robustness", f"Accuracy: {', '.join(parts)}; chance {robustness.chance:.1%}.")


def _whiskers(axes: Any, points: Sequence[tuple[float, float | None, Interval | None]]) -> None:
    """Draw a vertical line for each interval."""
    for x, _, interval in points:
        if interval is not None:
            axes.plot([x, x], [interval.low, interval.high], color=TEXT, linewidth=1.2, marker="_", markersize=6)


def map_figure(shown: EmbeddingMap) -> MapFigure:
    """Draw a map: colour and shape of a mark show the true genre, and a hollow mark a wrong answer.

    Marks are written directly as SVG, since a thousand matplotlib marks would make the page larger.
    """
    counts = Counter(point.genre for point in shown.points)
    ranked = sorted(counts, key=lambda genre: (-counts[genre], genre))
    marked = sorted(ranked[:_GENRES_MARKED])
    mark_of = {genre: str(number) for number, genre in enumerate(marked)}
    others = len(shown.points) - sum(counts[genre] for genre in marked)
    kinds = [*mark_of.values(), "o"]
    place, height = _placed(shown)
    body = []
    for point in shown.points:
        kind = "r" if point.answer == point.genre else "w"
        x, y = place(point.x, point.y)
        body.append(f'<use href="#map-{kind}{mark_of.get(point.genre, "o")}" x="{x:.1f}" y="{y:.1f}"/>')
    right = sum(point.answer == point.genre for point in shown.points)
    tracks = format_count(len(shown.points), "track")
    said = f"Map of {tracks}, {right:,} answered rightly (filled marks), by what the network sees."
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_MAP_WIDTH:g} {height:.0f}" role="img" '
        f'aria-label="{escape(said, quote=True)}"><defs>{"".join(_mark(kind) for kind in kinds)}</defs>'
        f"{''.join(body)}</svg>"
    )
    rows = [(f"map-r{mark}", genre, counts[genre]) for genre, mark in mark_of.items()]
    last = [("map-ro", None, others)] if others else []
    return MapFigure(svg, (*rows, *last), "map-ro", "map-wo")


def _mark(kind: str) -> str:
    """Return a filled and a hollow mark, defined once for reuse."""
    number = None if kind == "o" else int(kind)
    shape = _MARKS[0] if number is None else _MARKS[number % len(_MARKS)]
    colour = "var(--muted)" if number is None else f"var(--map-{number % _MAP_COLOURS + 1})"
    return (
        f'<path id="map-r{kind}" d="{shape}" style="fill:{colour};fill-opacity:.8;stroke:{colour}"/>'
        f'<path id="map-w{kind}" d="{shape}" style="fill:none;stroke:{colour};stroke-width:1.3"/>'
    )


def _placed(shown: EmbeddingMap) -> tuple[Any, float]:
    """Return a function from map to page coordinates, with equal scales on both axes, and the height of the picture."""
    xs, ys = [point.x for point in shown.points], [point.y for point in shown.points]
    wide, high = max(max(xs) - min(xs), 1e-6), max(max(ys) - min(ys), 1e-6)
    room = _MAP_WIDTH - 2 * _MAP_MARGIN
    scale = min(room / wide, (_MAP_HEIGHTS[1] - 2 * _MAP_MARGIN) / high)
    height = max(_MAP_HEIGHTS[0], high * scale + 2 * _MAP_MARGIN)
    middle_x, middle_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2

    def place(x: float, y: float) -> tuple[float, float]:
        return _MAP_WIDTH / 2 + (x - middle_x) * scale, height / 2 - (y - middle_y) * scale

    return place, height
