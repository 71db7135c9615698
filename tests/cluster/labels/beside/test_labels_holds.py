"""What rollbacks undid stays undone, whatever comes between, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.labels import table as table_module
from cluster.labels.beside.holds import HELD, list_holds, write_hold
from cluster.labels.beside.run_folder import RunFolder
from cluster.labels.history import commits, made_by, rollback
from cluster.labels.policy import Policy
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.errors import LabelsError, StorageError
from tests.support.nights import FEATURES, MODEL, NOW, held, night, planned, stage

RESUME = Policy(resume=True)


@pytest.fixture
def labels(uri: Uri) -> Uri:
    """Version 2 undid what version 1 made of track a, whose bytes are now "2"."""
    night(uri, {"a": "1", "b": "1"})
    night(uri, {"a": "2", "b": "1"})
    assert roll_back(uri, 0) == 2
    assert count_held(uri) == 1
    [hold] = list_holds(uri)
    assert hold.parent == uri / "_holds"
    return uri


def roll_back(uri: Uri, version: int) -> int:
    return rollback(uri, version, commits(LabelsTable(uri)))


def count_held(uri: Uri) -> int:
    return planned(LabelsTable(uri), {"a": "2", "b": "1"}).counts.held


def never_committed(uri: Uri, version: int) -> None:
    """Leave what a rollback leaves that is killed before its commit. It would hold track b's next bytes."""
    row = {"track_id": "b", "uri": "s3://music/b.mp3", "content_tag": "9", "model_id": MODEL, "features_id": FEATURES}
    rows = HELD.empty_table().from_pylist([row | dict.fromkeys(("removed", "failed", "restored"), False)], schema=HELD)
    write_hold(uri, version, "never", rows)


def forget_log(uri: Uri, before: int) -> None:
    """Do what Delta does after a month: a checkpoint replaces the entries."""
    LabelsTable(uri).delta.create_checkpoint()
    for version in range(before):
        (uri.local / "_delta_log" / f"{version:020}.json").unlink()
    assert commits(LabelsTable(uri))[-1].version == before


def test_a_rollback_that_comes_right_after_a_resumption(labels: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = RunFolder.sweep

    def before_holds_are_forgotten(self: RunFolder) -> None:
        sweep(self)
        assert roll_back(labels, 2) == 4

    monkeypatch.setattr(RunFolder, "sweep", before_holds_are_forgotten)
    night(labels, {"a": "2", "b": "1"}, policy=RESUME)
    assert held(labels)["a"]["content_tag"] == "1"
    assert count_held(labels) == 1


def test_a_rollback_that_comes_after_an_empty_plan(labels: Uri) -> None:
    night(labels, {"a": "1", "b": "1"})
    table = LabelsTable(labels)
    assert planned(table, {"a": "1", "b": "1"}, policy=RESUME).empty
    assert roll_back(labels, 1) == 3
    assert roll_back(labels, 2) == 4
    table.forget_holds()
    assert [uri.name.partition("-")[0] for uri in list_holds(labels)] == ["3", "4"]


def test_a_resumption_that_another_commit_replaced(labels: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a store whose conditional put is not atomic: the run was told that it had committed."""
    table = LabelsTable(labels)
    plan = planned(table, {"a": "2", "b": "1"}, policy=RESUME)
    stage(table, plan)
    monkeypatch.setattr(LabelsTable, "_enter", lambda *_, **__: None)
    with pytest.raises(LabelsError):
        table.commit(plan, plan.key, NOW)
    assert count_held(labels) == 1


def test_a_resumption_that_is_killed_before_it_forgets(labels: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(table_module, "release_holds", failing)
        night(labels, {"a": "2", "b": "1"}, policy=RESUME)
    assert len(list_holds(labels)) == 1
    night(labels, {"a": "3", "b": "1"})
    assert planned(LabelsTable(labels), {"a": "2", "b": "1"}).todo["track_id"].to_pylist() == ["a"]
    assert list_holds(labels) == []


def test_a_rollback_that_was_never_committed(labels: Uri) -> None:
    """Whether the log still reaches back to its version or not."""
    night(labels, {"a": "3", "b": "1"})
    night(labels, {"a": "1", "b": "1", "c": "1"})
    never_committed(labels, 3)
    for forgotten in (0, 4):
        forget_log(labels, forgotten)
        plan = planned(LabelsTable(labels), {"a": "2", "b": "9", "c": "1"})
        assert plan.counts.held == 1
        assert "b" in plan.todo["track_id"].to_pylist()


def test_the_next_commit_deletes_what_was_never_committed(labels: Uri) -> None:
    never_committed(labels, 2)
    never_committed(labels, 3)
    kept = {uri.name for uri in list_holds(labels) if "never" not in uri.name}
    night(labels, {"a": "3", "b": "1"})
    # A rollback that has the same number as this night may still be trying.
    assert {uri.name for uri in list_holds(labels)} == kept | {"3-never.parquet"}
    night(labels, {"a": "4", "b": "1"})
    assert {uri.name for uri in list_holds(labels)} == kept


def test_a_rollback_that_is_killed_right_after_its_commit(uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    night(uri, {"a": "1", "b": "1"})
    night(uri, {"a": "2", "b": "1"})
    with monkeypatch.context() as patched:
        patched.setattr(files, "move", failing)
        roll_back(uri, 0)
    [pending] = list_holds(uri)
    assert pending.parent.name == "pending"
    assert made_by(uri, pending.name.removesuffix(".parquet").partition("-")[2]) == 2
    assert count_held(uri) == 1
    night(uri, {"a": "1", "b": "5"})
    assert Path(uri.path, "_holds", pending.name).exists()
    forget_log(uri, 3)
    assert count_held(uri) == 1


def failing(*_: object) -> None:
    raise StorageError("the store does not answer")
