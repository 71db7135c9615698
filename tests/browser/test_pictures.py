"""The pictures of the docs show the reports as they look today; `make pictures` takes them anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import CHROMIUM
from tests.support.pictures import LARGEST_BYTES, PAGES, SIZES, take

IMAGES = Path(__file__).parents[2] / "docs" / "images"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: chromium, chromium-browser and google-chrome not found"),
]


def coarse(picture: Path) -> np.ndarray:
    """Shades of grey, a number for each 20 x 20 pixels: fonts of another machine hardly matter there."""
    with Image.open(picture) as image:
        width, height = image.size
        small = image.convert("L").resize((width // 20, height // 20), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


@pytest.mark.parametrize("name", PAGES)
def test_a_picture_shows_the_page_of_today(name: str, tmp_path: Path) -> None:
    kept = IMAGES / f"{name}.png"
    with Image.open(kept) as image:
        assert image.size == SIZES[name]
    assert kept.stat().st_size < LARGEST_BYTES
    difference = np.abs(coarse(kept) - coarse(take(name, tmp_path)))
    assert difference.mean() < 6, "the page looks different now: look at it, then `make pictures`"
