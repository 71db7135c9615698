"""Whether this process ends with its job, as a command does, or goes on, as a notebook and a test do."""

from __future__ import annotations

_ends_with_job = False


def end_with_job() -> None:
    """State that this process ends as soon as its job has ended and said how."""
    global _ends_with_job
    _ends_with_job = True


def ends_with_job() -> bool:
    """Return whether this process ends with its job."""
    return _ends_with_job
