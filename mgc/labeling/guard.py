"""The guard of a label run: what a run may change in the table unless a person says so.

Alarms come after a commit; the guard comes before it. A run that would make too many labels stale, remove too many of
them, turn too many into another genre or withdraw too many corrections stops, and the table stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT, read_fields
from mgc.units import format_count

_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Tracks = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class GuardLimits:
    """Limits of the guard. A share above its limit stops the run, so a limit of 1 turns that check off.

    Attributes:
        stale: share of the table's labels that would become stale, because their tracks failed.
        removed: share of the table's labels whose tracks left the catalog. A run that would remove all of them stops
            whatever the limits say.
        flips: share of the tracks labeled again by the same model whose genre would change.
        flips_new_model: share of the tracks labeled again by another model whose genre would change.
        same_cause: share of the tried tracks that failed with one and the same cause.
        corrections: share of the table's corrections that the given file lacks, and that would be withdrawn. An empty
            file that would withdraw all of them stops the run whatever the limits say.
        tracks: smallest number of such tracks that stops a run. Among fewer, a single track would decide.
    """

    stale: _Share = 0.05
    removed: _Share = 0.05
    flips: _Share = 0.4
    flips_new_model: _Share = 1.0
    same_cause: _Share = 1.0
    corrections: _Share = 0.05
    tracks: _Tracks = 10


CANARY: Final = "canary"
"""Name under which a person accepts the answers of a canary."""

CHECKS: Final = ("stale", "removed", "flips", "flips_new_model", "same_cause", "corrections")
"""Names of the checks, in the order of `GuardLimits`."""

BY_PLAN: Final = frozenset({"removed", "corrections"})
"""Checks that a plan decides before anything is heard. What the rows staged so far say of the others may change."""

LIMITS: Final = tuple(each.name for each in dataclasses.fields(GuardLimits))
"""Names of the limits."""

ACCEPTABLE: Final = (*CHECKS, CANARY)
"""Names that a person may accept."""


def guard_limits(values: Mapping[str, str]) -> GuardLimits:
    """Return limits with some values set by name, as on a command line.

    Args:
        values: field of `GuardLimits` → value as text.

    Raises:
        ConfigError: there is no such field, or the value is out of range.
    """
    return read_fields(GuardLimits, values, "limit")


@dataclasses.dataclass(frozen=True)
class Outlook:
    """What a commit would change. Tracks that left the catalog earlier count only if they are back.

    Attributes:
        labels: labels in the table before the run. They are counted only if some would become stale or be removed.
        stale: labels of these that would become stale.
        removed: labels of these whose tracks left the catalog.
        relabeled: tracks labeled again by the same model and front end.
        flips: number of these whose genre would change.
        relabeled_new_model: tracks labeled again by another model or front end.
        flips_new_model: number of these whose genre would change.
        tried: tracks that the run tried.
        same_cause: tracks that failed with the most frequent cause.
        cause: that cause; "" where no track failed.
        corrected: corrections in the table before the run, those of tracks that left the catalog included.
        corrections: number of these that would be withdrawn.
        given: corrections in the file that the run was given.
    """

    labels: int = 0
    stale: int = 0
    removed: int = 0
    relabeled: int = 0
    flips: int = 0
    relabeled_new_model: int = 0
    flips_new_model: int = 0
    tried: int = 0
    same_cause: int = 0
    cause: str = ""
    corrected: int = 0
    corrections: int = 0
    given: int = 0

    def seen(self, name: str) -> tuple[int, int]:
        """Return the tracks of a check, and the number of tracks that they are a share of."""
        return {
            "stale": (self.stale, self.labels),
            "removed": (self.removed, self.labels),
            "flips": (self.flips, self.relabeled),
            "flips_new_model": (self.flips_new_model, self.relabeled_new_model),
            "same_cause": (self.same_cause, self.tried),
            "corrections": (self.corrections, self.corrected),
        }[name]


@dataclasses.dataclass(frozen=True)
class Breach:
    """A check that stops a run.

    Attributes:
        name: one of `ACCEPTABLE`.
        tracks: number of tracks.
        of: number of tracks that they are a share of.
        limit: limit that the share exceeds.
        message: what the run would do, for a person; a clause without a full stop.
    """

    name: str
    tracks: int
    of: int
    limit: float
    message: str


def find_breaches(outlook: Outlook, limits: GuardLimits, accepted: Collection[str] = ()) -> list[Breach]:
    """Return the checks that stop a run, in the order of `CHECKS`.

    Args:
        outlook: what the commit would change.
        limits: limits of the guard.
        accepted: names of checks that a person has accepted.
    """
    found = []
    for name in CHECKS:
        tracks, of = outlook.seen(name)
        limit = float(getattr(limits, name))
        past = tracks >= limits.tracks and tracks > limit * of
        # A listing without a single known track is no catalog, however small the table is.
        past = past or (name == "removed" and 0 < tracks == of)
        # A file that was cut off behind its header is one, too.
        past = past or (name == "corrections" and tracks > 0 and not outlook.given)
        if past and name not in accepted:
            found.append(Breach(name, tracks, of, limit, _describe(name, tracks, of, limit, outlook)))
    return found


def _describe(name: str, tracks: int, of: int, limit: float, outlook: Outlook) -> str:
    noun = {"stale": "label", "removed": "label", "corrections": "correction"}.get(name, "track")
    count = f"{tracks:,} of {format_count(of, noun)}"
    share = f"{100 * tracks / of:.1f} %, the limit is {100 * limit:g} %"
    match name:
        case "stale":
            because = f"; most frequent cause: {outlook.cause}" if outlook.cause else ""
            return f"{count} would become stale ({share}){because}"
        case "removed":
            return f"{count} would be removed, because the catalog lacks their tracks ({share})"
        case "flips":
            return f"{count} would change their genre under the same model ({share})"
        case "flips_new_model":
            return f"{count} would change their genre under the new model ({share})"
        case "corrections":
            what = "lacks them" if outlook.given else "is empty"
            return f"{count} would be withdrawn, because the given file {what} ({share})"
        case _:
            return f"{count} failed with the same cause ({share}): {outlook.cause}"
