"""Which quarantined tracks are worth another try, how often, and when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from mgc.errors import ErrorKind

MOST_TRIES: Final = 5
"""A track that failed so often is not tried again until its bytes, the model or the front end change."""

FIRST_WAIT: Final = timedelta(hours=20)
"""Before the second try; doubled before each further one. Less than a day, so that a job that starts every night at
about the same time finds it due: tries fall on the nights 1, 2, 4, 8 and 15."""


def worth_another_try() -> list[str]:
    """The kinds of error that may pass without a change of the track."""
    return [kind.value for kind in ErrorKind if not kind.permanent]


def next_try_at(error_kind: str | None, tries: int, failed_at: datetime) -> datetime | None:
    """When a track is to be tried again; None for never.

    Args:
        error_kind: a value of `ErrorKind`, or None for a track without an error.
        tries: failed so far, this one included.
        failed_at: time of the last, aware.
    """
    if error_kind not in worth_another_try() or tries >= MOST_TRIES:
        return None
    return failed_at + FIRST_WAIT * 2 ** (tries - 1)
