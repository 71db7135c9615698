"""A confusion matrix as an image, for tools that cannot show HTML: TensorBoard, MLflow.

Axes: G genres, H rows of pixels, W columns, C colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

_INCHES_A_GENRE: Final = 0.42
_MARGIN_INCHES: Final = 2.2
_DOTS_AN_INCH: Final = 100
_NUMBERED: Final = 24
"""Most genres for which counts are shown; with more they would not be legible."""


def confusion_image(
    confusion_GG: Sequence[Sequence[int]] | npt.NDArray[np.integer], genres: Sequence[str], title: str
) -> npt.NDArray[np.uint8]:
    """Draw a confusion matrix: counts, shaded by their share of the row as in the HTML report.

    Args:
        confusion_GG: counts, true genres in rows, answers in columns.
        genres: names, in the same order.
        title: title above the matrix.

    Returns:
        uint8 (H, W, 3), 0 to 255.
    """
    # Imported here since it takes a second. Figure instead of pyplot: no global state, no display.
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts_GG = np.asarray(confusion_GG, dtype=np.int64)
    rows_G = counts_GG.sum(axis=1, keepdims=True)
    share_GG = np.divide(counts_GG, rows_G, out=np.zeros(counts_GG.shape), where=rows_G > 0)
    side = _MARGIN_INCHES + _INCHES_A_GENRE * len(genres)
    # Use matplotlib's defaults, whatever the user's own style.
    with style.context("default", after_reset=True):
        figure = Figure(figsize=(side, side), dpi=_DOTS_AN_INCH, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        # The square root makes confusions of a few percent visible.
        axes.imshow(np.sqrt(share_GG), cmap="Blues", vmin=0.0, vmax=1.0)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(genres)), genres, rotation=90, fontsize=8)
        axes.set_yticks(range(len(genres)), genres, fontsize=8)
        axes.set_xlabel("answer", fontsize=9)
        axes.set_ylabel("true genre", fontsize=9)
        if len(genres) <= _NUMBERED:
            for truth, answer in np.argwhere(counts_GG):
                dark = share_GG[truth, answer] > 0.35
                axes.text(
                    answer, truth, counts_GG[truth, answer], ha="center", va="center", fontsize=7,
                    color="white" if dark else "black",
                )  # fmt: skip
        canvas.draw()
        # Copy, because the canvas owns its buffer.
        return np.array(canvas.buffer_rgba())[..., :3].copy()
