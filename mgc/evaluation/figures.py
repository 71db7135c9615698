"""Figures of the report and the style they share, as inline SVG that takes its colours from the page.

matplotlib draws with stand-in colours, which then become the page's CSS variables. So one SVG serves light and dark.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

WIDTH_INCHES: Final = 4.8
HEIGHT_INCHES: Final = 3.0

_STAND_INS: Final = {
    "#000001": "--muted",
    "#000002": "--line",
    "#000006": "--page",
    "#000003": "--series-1",
    "#000004": "--series-2",
    "#000005": "--series-3",
}
TEXT, GRID, PAGE, *SERIES_COLOURS = _STAND_INS
_DASHES: Final = ("solid", "dashed", "dotted")
_MARKERS: Final = ("o", "s", "^")


@dataclass(frozen=True)
class Curve:
    """One line of a figure.

    Attributes:
        name: name in the legend.
        values: one value per epoch. None (not measured) is skipped; a number that is not finite breaks the line.
    """

    name: str
    values: Sequence[float | None]


def curves_svg(
    name: str, epochs: Sequence[int], curves: Sequence[Curve], *, share: bool, kept: int | None = None
) -> str | None:
    """Draw curves over epochs.

    Args:
        name: word for the figure, unique on the page. It prefixes the ids of the SVG and starts its description.
        epochs: values of the x axis.
        curves: at most three curves; a curve without numbers is left out.
        share: whether the values are shares of 1, shown in percent on an axis from 0 to 100; otherwise they are losses.
        kept: epoch to mark as the one whose weights were kept; None marks none.

    Returns:
        An `<svg>` element without size or fixed colours, or None if there is nothing to draw.
    """
    drawn = [
        (i, curve) for i, curve in enumerate(curves) if any(v is not None and math.isfinite(v) for v in curve.values)
    ]
    if not drawn:
        return None
    from matplotlib.ticker import MaxNLocator

    with house_figure(name) as figure:
        axes = figure.add_subplot()
        for i, curve in drawn:
            measured = [(epoch, value) for epoch, value in zip(epochs, curve.values, strict=True) if value is not None]
            axes.plot(
                [epoch for epoch, _ in measured],
                [value if math.isfinite(value) else math.nan for _, value in measured],
                label=curve.name,
                color=SERIES_COLOURS[i],
                linestyle=_DASHES[i],
                linewidth=1.8,
                # A single epoch needs a mark to show; many marks would hide the line.
                marker=_MARKERS[i] if len(measured) <= 30 else None,
                markersize=3.5,
            )
        if kept is not None:
            # Behind the curves.
            axes.axvline(kept, label="kept", color=TEXT, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.set_xlabel("epoch", color=TEXT)
        if share:
            # Leave room above, so that a mark at 100 % is whole.
            axes.set_ylim(0, 1.04)
            axes.yaxis.set_major_formatter(percents())
        else:
            axes.set_ylim(bottom=0)
            axes.set_ylabel("nats a clip", color=TEXT)
        dress(axes)
        legend(figure)
        description = _describe(name, epochs, [curve for _, curve in drawn], share=share)
        return inline(figure, name, description if kept is None else f"{description[:-1]}; epoch {kept} was kept.")


def histogram_svg(name: str, histograms: Sequence[tuple[str, Sequence[float]]]) -> str | None:
    """Draw one or two histograms over 0 to 1: the first as bars, the second as an outline.

    Args:
        name: word for the x axis, unique on the page as for `curves_svg`.
        histograms: name and the shares of the equal bins, which sum to 1.

    Returns:
        As for `curves_svg`.
    """
    if not histograms:
        return None
    with house_figure(name) as figure:
        axes = figure.add_subplot()
        for i, (label, shares) in enumerate(histograms):
            edges = [place / len(shares) for place in range(len(shares) + 1)]
            drawn: dict[str, Any] = {"label": label, "color": SERIES_COLOURS[i]}
            if i == 0:
                axes.stairs(shares, edges, fill=True, alpha=0.55, **drawn)
            else:
                axes.stairs(shares, edges, baseline=None, linewidth=1.8, **drawn)
        # Leave room at the sides, so that the first tick stays clear of the other axis.
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(name, color=TEXT)
        axes.yaxis.set_major_formatter(percents())
        dress(axes)
        legend(figure)
        parts = [f"most {label} from {_fullest(shares)}" for label, shares in histograms]
        return inline(figure, name, f"{name.capitalize()}, shares of tracks: {'; '.join(parts)}.")


def _fullest(shares: Sequence[float]) -> str:
    place = max(range(len(shares)), key=lambda i: shares[i])
    return f"{place / len(shares):.2f} to {(place + 1) / len(shares):.2f} ({shares[place]:.1%})"


def load_drawing() -> None:
    """Import what draws, which takes a second, at a moment when the process has nothing else to do."""
    importlib.import_module("matplotlib.figure")
    importlib.import_module("matplotlib.backends.backend_svg")


@contextlib.contextmanager
def house_figure(name: str, height_inches: float = HEIGHT_INCHES, width_inches: float = WIDTH_INCHES) -> Iterator[Any]:
    """Yield an empty matplotlib figure in the house style, which applies until the block ends.

    Args:
        name: word for the figure, unique on the page.
        height_inches: height of the figure.
        width_inches: width of the figure: the default for half a page, twice that for a whole page. All text on the
            page then has the same size.
    """
    # Imported here since it takes a second and not every page has figures. Figure instead of pyplot: no global state.
    from matplotlib import style
    from matplotlib.figure import Figure

    # Use matplotlib's defaults, whatever the user's own style. Text stays text, and ids are the same in every run.
    with style.context({"svg.fonttype": "none", "svg.hashsalt": name}, after_reset=True):
        yield Figure(figsize=(width_inches, height_inches), layout="constrained")


def percents() -> Any:
    """Return a formatter that writes an axis of shares of 1 in percent."""
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0, symbol="\N{NO-BREAK SPACE}%")


def dress(axes: Any) -> None:
    """Give axes a grid, ticks and a frame in the page's colours."""
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def legend(figure: Any) -> None:
    """Add a legend above the axes of a figure, where it covers no curve."""
    figure.legend(
        loc="outside upper left", ncols=3, frameon=False, labelcolor=TEXT, handlelength=2.4, columnspacing=1.4
    )


def _describe(name: str, epochs: Sequence[int], curves: Sequence[Curve], *, share: bool) -> str:
    parts = []
    for curve in curves:
        values = [value for value in curve.values if value is not None and math.isfinite(value)]
        first, last = (f"{value:.1%}" if share else f"{value:.3g}" for value in (values[0], values[-1]))
        parts.append(f"{curve.name} from {first} to {last}")
    return f"{name.capitalize()} over epochs {epochs[0]} to {epochs[-1]}: {'; '.join(parts)}."


def inline(figure: Any, name: str, description: str) -> str:
    """Return the figure as an element whose size, ids, colours and description fit the page."""
    raw = io.StringIO()
    figure.savefig(
        raw, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    svg = raw.getvalue()
    svg = svg[svg.index("<svg") :]
    body = svg[svg.index(">") + 1 :]
    # Two figures on one page must not share ids, or a clip path of one would cut the other.
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body).replace("xlink:href", "href")
    for colour, variable in _STAND_INS.items():
        body = body.replace(colour, f"var({variable})")
    # matplotlib's SVG uses points, 72 to the inch.
    width, height = figure.get_size_inches()
    box = f"0 0 {72 * width:g} {72 * height:g}"
    label = escape(description, quote=True)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-label="{label}">{body.strip()}'
