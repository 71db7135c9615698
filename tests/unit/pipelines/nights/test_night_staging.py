"""How far a run goes, and which runs are turned away before they work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc.errors import LabelsError
from mgc.labeling.throughput import Throughput
from pipelines.nights import staging
from pipelines.nights.embed import hold
from pipelines.nights.staging import Pace, Share, stage_all
from tests.support.nights import night, planned, stage

NOTHING = cast("Any", None)
TRACKS = {"a": "1", "b": "1", "c": "1"}


@pytest.fixture
def labels(tmp_path: Path) -> Uri:
    return Uri.parse(str(tmp_path / "labels"))


def share_of(labels: Uri) -> Share:
    table = LabelsTable(labels)
    return Share(table, planned(table, TRACKS))


def test_a_node_whose_clock_is_ahead_ends_a_night_early(
    labels: Uri, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It starts no tracks, though the driver's clock has time left. What is done is committed."""
    share = share_of(labels)

    def only_some(*_: Any) -> Throughput:
        if share.run.missing().num_rows == len(TRACKS):
            stage(share.table, share.plan.without(share.plan.todo.slice(1)))
        return Throughput()

    monkeypatch.setattr(staging, "_pass", only_some)
    plan, _ = stage_all([share], NOTHING, NOTHING, Pace(until=datetime.now(UTC) + timedelta(hours=1)))
    assert (plan.todo["track_id"].to_pylist(), plan.counts.pending) == (["a"], 2)
    said = capsys.readouterr().err
    assert "2 tracks" in said
    assert "clock" in said


def test_without_a_time_to_stop_no_track_is_left_out(labels: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_pass", lambda *_: Throughput())
    with pytest.raises(LabelsError, match="3 tracks without a row"):
        stage_all([share_of(labels)], NOTHING, NOTHING, Pace())


def test_a_run_that_was_overtaken_while_it_planned_hears_nothing(labels: Uri) -> None:
    share = share_of(labels)
    night(labels, {"z": "1"})
    with pytest.raises(LabelsError, match="another run has committed version 0"), hold(share):
        pytest.fail("the table is held")
    # One with nothing to do harms nobody.
    idle = Share(LabelsTable(labels), planned(LabelsTable(labels), {"z": "1"}))
    night(labels, TRACKS)
    with hold(idle):
        pass
