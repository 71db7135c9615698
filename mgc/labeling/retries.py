"""Retries of quarantined tracks: which ones, how often, and when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from mgc.errors import ErrorKind

BACK_OFF_TRIES: Final = 5
"""Number of failures after which the wait no longer doubles."""

LONGEST_WAIT: Final = timedelta(days=30)
"""Wait after `BACK_OFF_TRIES` failures and more. An error that may pass is retried for ever."""

FIRST_WAIT: Final = timedelta(hours=20)
"""Wait before the second try, doubled before each later one.

It is less than a day, so that a job that starts at about the same time every night finds the track due. The tries fall
on nights 1, 2, 4, 8 and 15, then monthly.
"""


def worth_another_try() -> list[str]:
    """Return the kinds of error that may go away although the track does not change."""
    return [kind.value for kind in ErrorKind if not kind.permanent]


def next_try_at(error_kind: str | None, tries: int, failed_at: datetime) -> datetime | None:
    """Return when to try a track again, or None for never.

    Args:
        error_kind: value of an `ErrorKind`, or None for a track without an error.
        tries: number of failures so far, this one included.
        failed_at: aware time of the last failure.
    """
    if error_kind not in worth_another_try():
        return None
    if tries >= BACK_OFF_TRIES:
        return failed_at + LONGEST_WAIT
    doublings: int = 2 ** (tries - 1)
    return failed_at + FIRST_WAIT * doublings
