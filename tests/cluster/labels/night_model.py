"""A model of the labels table in plain Python, and random nights to hold it against the real one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cluster.labels.policy import Gone
from mgc.errors import ErrorKind
from mgc.labeling.retries import BACK_OFF_TRIES, FIRST_WAIT, LONGEST_WAIT
from tests.support.nights import LABEL

GENRES = ("Rock", "Jazz", "Folk")
BROKEN = (ErrorKind.NOT_AUDIO, ErrorKind.CORRUPT_STREAM)
PASSING = (ErrorKind.FETCH_FAILED, ErrorKind.TIMEOUT)

Tried = tuple[str, str]
"""Content and model of a try."""


REMOVED = "removed"
"""In place of a model, for a removal."""


@dataclass(frozen=True)
class Failure:
    """The last try of a track, which failed."""

    kind: str
    tried: Tried
    tries: int
    next_try_at: datetime | None


@dataclass(frozen=True)
class ModelRow:
    """What the table should say of a track."""

    label: tuple[str, Tried] | None = None
    failure: Failure | None = None
    removed: bool = False
    correction: str | None = None

    @property
    def tried(self) -> Tried:
        """What the last try heard."""
        if self.failure is not None:
            return self.failure.tried
        assert self.label is not None
        return self.label[1]


@dataclass
class World:
    """Files as they are, and the table as it should be.

    Attributes:
        files: track → content; a content that begins with "!" cannot be decoded.
        rows: track → row.
        versions: the rows of each version of the table.
        held: what rollbacks undid, and whether that try had failed: (track, tried), and for a removal
            (track, (content, REMOVED)).
    """

    files: dict[str, str] = field(default_factory=dict)
    rows: dict[str, ModelRow] = field(default_factory=dict)
    versions: dict[int, dict[str, ModelRow]] = field(default_factory=dict)
    held: dict[tuple[str, Tried], bool] = field(default_factory=dict)

    def verdicts(self, model: str, at: datetime, resume: bool = False) -> dict[str, str]:
        """Return the tracks to label, with the reason."""
        found = {}
        for track, content in self.files.items():
            row, now = self.rows.get(track), (content, model)
            if row is None or row.removed:
                reason = "new"
            elif row.tried[0] != content:
                reason = "changed"
            elif row.tried[1] != model:
                reason = "other_model"
            elif row.failure is not None and row.failure.next_try_at is not None and row.failure.next_try_at <= at:
                reason = "retry"
            else:
                continue
            failed = self.held.get((track, now))
            if resume or failed is None or (reason == "retry" and failed):
                found[track] = reason
        return found

    def removals(self, gone: Gone, corrections: dict[str, str] | None, resume: bool = False) -> set[str]:
        """Return the tracks that a night marks or prunes."""
        if gone == "keep":
            return set()
        corrected = (
            {track for track, row in self.rows.items() if row.correction} if corrections is None else corrections
        )
        return {
            track
            for track, row in self.rows.items()
            if track not in self.files
            and (not row.removed or (gone == "prune" and track not in corrected))
            and (resume or (track, (row.tried[0], REMOVED)) not in self.held)
        }

    def outcome(self, track: str, model: str, failing: set[str]) -> str:
        """Return what becomes of a track tonight, as `tests.support.nights.heard` has it."""
        content = self.files[track]
        if track in failing:
            return str(PASSING[len(content) % 2])
        if content.startswith("!"):
            return str(BROKEN[len(content) % 2])
        return f"{LABEL}: {GENRES[hash_of(content + model) % 3]}"

    def enter(
        self, model: str, todo: dict[str, str], outcomes: dict[str, str], removed: set[str], gone: Gone, at: datetime,
        corrections: dict[str, str] | None,
    ) -> None:  # fmt: skip
        """Enter a night that committed."""
        for track, reason in todo.items():
            old, outcome, tried = self.rows.get(track), outcomes[track], (self.files[track], model)
            correction = old.correction if old else None
            if outcome.startswith(LABEL):
                self.rows[track] = ModelRow((outcome.split(": ")[1], tried), None, False, correction)
                continue
            earlier = old.failure.tries if old and old.failure and reason == "retry" else 0
            failure = Failure(outcome, tried, earlier + 1, wait(outcome, earlier + 1, at))
            self.rows[track] = ModelRow(old.label if old else None, failure, False, correction)
        if corrections is not None:
            for track, row in self.rows.items():
                self.rows[track] = replace(row, correction=corrections.get(track))
        for track in removed:
            if gone == "prune" and self.rows[track].correction is None:
                del self.rows[track]
            else:
                self.rows[track] = replace(self.rows[track], removed=True)

    def roll_back(self, version: int) -> None:
        """Return to a version, and hold what that undoes."""
        old, undone = self.versions[version], self.rows
        for track, row in old.items():
            if not row.removed and (track not in undone or differs(row, undone[track])):
                self.held.pop((track, row.tried), None)
        for track, row in undone.items():
            if not row.removed and (track not in old or old[track].removed):
                self.held.pop((track, (row.tried[0], REMOVED)), None)
        for track, row in undone.items():
            if not row.removed and (track not in old or differs(row, old[track])):
                earlier = self.held.get((track, row.tried), True)
                self.held[(track, row.tried)] = earlier and row.failure is not None
        for track, row in old.items():
            if track not in undone or (undone[track].removed and not row.removed):
                self.held[(track, (row.tried[0], REMOVED))] = False
        self.rows = dict(old)


def hash_of(text: str) -> int:
    """Return a number that is the same in each process."""
    return random.Random(text).randrange(2**32)


def wait(kind: str, tries: int, at: datetime) -> datetime | None:
    """Return when to try again."""
    if kind not in PASSING:
        return None
    return at + (LONGEST_WAIT if tries >= BACK_OFF_TRIES else FIRST_WAIT * 2 ** (tries - 1))


def differs(row: ModelRow, other: ModelRow) -> bool:
    """Return whether two versions of a row come from different runs."""
    return (row.label, row.failure) != (other.label, other.failure)


def stated(row: ModelRow) -> dict[str, Any]:
    """Return what the real table should say in some of its columns."""
    label, failure = row.label, row.failure
    stale = label is not None and failure is not None
    tried = label[1] if label is not None else failure.tried if failure is not None else None
    assert tried is not None
    return {
        "status": "labeled" if label is not None or row.correction else "quarantined",
        "genre_top": row.correction or (label[0] if label else None),
        "content_tag": tried[0],
        "model_id": tried[1],
        "error_kind": failure.kind if failure is not None and label is None else None,
        "last_error_kind": failure.kind if failure is not None and stale else None,
        "tried_content_tag": failure.tried[0] if failure is not None and stale else None,
        "tried_model_id": failure.tried[1] if failure is not None and stale else None,
        "tries": failure.tries if failure is not None else row_tries(row),
        "next_try_at": failure.next_try_at if failure is not None else None,
        "removed": row.removed,
        "override": row.correction is not None,
    }


def row_tries(row: ModelRow) -> None:
    """Tries of a label are not modelled."""
    assert row.failure is None


class Walk:
    """Random steps. The same seed gives the same walk."""

    def __init__(self, seed: int, tracks: int = 12) -> None:
        self.random = random.Random(seed)
        self.tracks = [f"t{number:02}" for number in range(tracks)]
        self.now = datetime.fromisoformat("2026-03-01T02:30:00+00:00")
        self.contents = 0
        self.gone_files: dict[str, str] = {}

    def change_files(self, files: dict[str, str]) -> None:
        """Add, change, break, heal, remove and return files."""
        for _ in range(self.random.randint(0, 4)):
            track = self.random.choice(self.tracks)
            match self.random.choice(("new", "new", "break", "heal", "remove", "return", "all break", "all gone")):
                case "new":
                    files[track] = self._content("")
                case "break" if track in files:
                    self.gone_files[track] = files[track]
                    files[track] = self._content("!")
                case "heal" | "return" if track in self.gone_files:
                    files[track] = self.gone_files[track]
                case "remove" if track in files:
                    self.gone_files[track] = files.pop(track)
                case "all break" if self.random.random() < 0.3:
                    self.gone_files |= files
                    files |= {each: self._content("!") for each in files}
                case "all gone" if self.random.random() < 0.3 and len(files) > 1:
                    keep = self.random.choice(sorted(files))
                    self.gone_files |= files
                    for each in [each for each in files if each != keep]:
                        del files[each]
                case _:
                    pass
        if not files:
            files[self.tracks[0]] = self._content("")
        self.now += timedelta(hours=self.random.choice((1, 24, 24, 24, 200, 900)))

    def _content(self, mark: str) -> str:
        self.contents += 1
        return f"{mark}{self.contents}"
