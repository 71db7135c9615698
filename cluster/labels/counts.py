"""Counts of tracks, of a plan and of the run that carried it out."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class PlanCounts:
    """Tracks by what a plan does with them. The order of the fields is the order in which they are written.

    Attributes:
        up_to_date: tracks with a label from the same bytes, model and front end.
        new: tracks that are not in the table, or are marked there as removed.
        changed: tracks whose bytes or place changed.
        other_model: tracks labelled by another model or front end.
        retry: quarantined tracks that are due for another try.
        waiting: quarantined tracks whose next try is later.
        held: tracks whose change a rollback undid, and which the run therefore leaves alone.
        removed: tracks that left the catalog, if the policy acts on them.
        pending: tracks left for a later run, because of `--limit` or `--until`.
        corrected: tracks that are not labelled again but whose correction changes.
        unknown_overrides: corrections of tracks that neither the table nor the catalog has.
        unseen: tracks of the table that the catalog lacks because their folder could not be read. They stay as they
            are.
    """

    up_to_date: int = 0
    new: int = 0
    changed: int = 0
    other_model: int = 0
    retry: int = 0
    waiting: int = 0
    held: int = 0
    removed: int = 0
    pending: int = 0
    corrected: int = 0
    unknown_overrides: int = 0
    unseen: int = 0

    @property
    def to_label(self) -> int:
        """Number of tracks to label."""
        return self.new + self.changed + self.other_model + self.retry

    def to_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True)
class RunCounts(PlanCounts):
    """Tracks by what a committed run did with them.

    Attributes:
        labeled: tracks with a label from this run.
        kept: tracks that this run could not label and that keep an earlier label, now stale.
        quarantined: tracks that this run could not label and that never had a label.
        overridden: labelled or quarantined tracks whose genre comes from a curator.
    """

    labeled: int = 0
    kept: int = 0
    quarantined: int = 0
    overridden: int = 0


@dataclass(frozen=True)
class CommittedRun:
    """Result of a commit.

    Attributes:
        version: version of the table that the commit made.
        counts: tracks by what the run did with them, as the commit records them.
    """

    version: int
    counts: RunCounts
