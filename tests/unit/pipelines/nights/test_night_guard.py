"""What of a run the guard judges before anything is heard, and when a stopped run is heard again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from cluster.labels.beside.run_folder import RunFolder
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.labeling.guard import GuardLimits, guard_limits
from pipelines.nights.guard import Guard
from pipelines.nights.plan import Night
from tests.support.nights import night, planned, stage

TRACKS = 100


@pytest.fixture
def labels(tmp_path: Path) -> Uri:
    uri = Uri.parse(str(tmp_path / "labels"))
    night(uri, {f"{number:03}": "1" for number in range(TRACKS)})
    return uri


def stopped(labels: Uri, gone: int, failed: int) -> tuple[Night, RunFolder]:
    """A night in which tracks left the catalog and others, whose bytes have changed, cannot be fetched."""
    tracks = {f"{number:03}": "2" if number < failed else "1" for number in range(TRACKS - gone)}
    table = LabelsTable(labels)
    plan = planned(table, tracks)
    run = table.run(plan)
    run.freeze()
    stage(table, plan, dict.fromkeys(list(tracks)[:failed], "fetch_failed"))
    return Night(cast("Any", None), table, plan, (), pa.table({})), run


@pytest.mark.parametrize("gone", [0, 1, 20])
def test_rows_of_a_stopped_run_do_not_stop_the_next(gone: int, labels: Uri) -> None:
    """The cause may be fixed by now, so what failed before says nothing."""
    limits = guard_limits({"same_cause": "0.5"})
    of_night, run = stopped(labels, gone, failed=20)
    guard = Guard(limits, ())
    assert {breach.name for breach in guard.foresee_commit(of_night, of_night.plan)} >= {"stale", "same_cause"}
    assert [breach.name for breach in guard.foresee_plan(of_night)] == (["removed"] if gone == 20 else [])
    run.mark_refused(["stale", "same_cause"])
    assert guard.hears_again(run)


@pytest.mark.parametrize(
    ("why", "accepted", "again"),
    [
        (None, (), False),
        (["stale"], (), True),
        (["stale"], ("stale",), False),
        (["stale"], ("removed",), True),
        (["stale"], ("stale", "removed"), False),
        (["stale", "flips"], ("stale",), True),
        (["stale", "flips"], ("flips", "stale"), False),
        ([], (), True),
        ([], ("stale",), False),
    ],
)
def test_it_is_heard_again_unless_a_person_accepts_all_of_it(
    why: list[str] | None, accepted: tuple[str, ...], again: bool, labels: Uri
) -> None:
    _, run = stopped(labels, gone=0, failed=20)
    if why is not None:
        run.mark_refused(why)
        assert files.exists(run.uri / "refused")
    assert Guard(GuardLimits(), accepted).hears_again(run) is again
