"""How many examples a test draws at random: all of them in `make drills`, a fifth in `make test`.

    @pytest.mark.draws
    @settings(max_examples=draws(250))

Chance finds the same faults in either run, in `make drills` surer and sooner.
"""

from __future__ import annotations

from typing import Final

MARK: Final = "draws"
"""Of the tests that ask `draws`, so that `make drills` runs them too."""

_SHARE: Final = 5

_all = False


def draw_all(wanted: bool) -> None:
    """Say which run this is, before the tests are imported."""
    global _all
    _all = wanted


def draws(count: int) -> int:
    """How many of so many examples to draw in this run."""
    return count if _all else max(1, count // _SHARE)
