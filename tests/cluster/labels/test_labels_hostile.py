"""Sequences of nights that once broke a promise of the table, without Ray."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.labels.canaries import choose_canaries
from cluster.labels.history import commits, rollback
from cluster.labels.outlook import foresee
from cluster.labels.overrides import OVERRIDES
from cluster.labels.policy import Policy
from cluster.labels.table import LabelsTable
from cluster.labels.vacuum import vacuum
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.errors import LabelsError
from mgc.labeling.guard import GuardLimits, find_breaches
from tests.support.nights import FEATURES, MODEL, NOW, catalog, heard, held, night, planned, stage

MANY = {f"t{number:02}": "1" for number in range(40)}


@pytest.fixture
def labels(tmp_path: Path) -> Uri:
    return Uri.of_path(tmp_path / "labels")


def corrections(*tracks: str, genre: str = "Folk") -> Policy:
    rows = [{"track_id": track, "genre": genre, "by": "ann", "reason": None} for track in tracks]
    return Policy(overrides=pa.Table.from_pylist(rows, schema=OVERRIDES))


def corrected(labels: Uri) -> set[str]:
    return {track for track, row in held(labels).items() if row["override_by"]}


class TestCorrections:
    def test_of_tracks_that_a_night_did_not_reach(self, labels: Uri) -> None:
        """By a new model all tracks are due, two of four are heard in time, and all four are corrected."""
        tracks = dict.fromkeys("abcd", "1")
        night(labels, tracks)
        table = LabelsTable(labels)
        plan = planned(table, tracks, "model-2", policy=corrections(*tracks))
        table.run(plan).freeze()
        part = plan.without(plan.todo.slice(2))
        assert part.counts.corrected == 2
        stage(table, part)
        table.commit(part, part.key, NOW)
        assert corrected(labels) == set(tracks)
        night(labels, tracks, model="model-2")
        assert corrected(labels) == set(tracks)

    def test_of_a_track_that_came_due_after_the_plan_was_frozen(self, labels: Uri) -> None:
        tracks = {"a": "1", "b": "1"}
        night(labels, tracks, {"b": "fetch_failed"})
        tracks["a"] = "2"
        policy = corrections("b")
        table = LabelsTable(labels)
        early = planned(table, tracks, policy=policy, at=NOW + timedelta(hours=1))
        table.run(early).freeze()
        later = planned(LabelsTable(labels), tracks, policy=policy, at=NOW + timedelta(days=3))
        assert later.todo["track_id"].to_pylist() == ["a"]
        stage(table, later)
        table.commit(later, later.key, NOW)
        assert corrected(labels) == {"b"}

    def test_pruning_takes_only_rows_that_the_plan_removes(self, labels: Uri) -> None:
        tracks = {"a": "1", "b": "1", "c": "1"}
        night(labels, tracks, policy=corrections("b"))
        del tracks["b"]
        night(labels, tracks, policy=Policy("mark"), at=NOW - timedelta(days=1))
        tracks["a"] = "2"
        withdrawn = replace(corrections(), gone="prune")
        # With a limit, no track counts as removed.
        night(labels, tracks, policy=withdrawn, limit=1)
        assert "b" in held(labels)
        night(labels, tracks, policy=Policy("prune"))
        assert "b" not in held(labels)


class TestRollback:
    def test_of_a_retry(self, labels: Uri) -> None:
        tracks = {"x": "1", "y": "1"}
        night(labels, tracks, {"x": "a label: Rock"})
        tracks["x"] = "2"
        night(labels, tracks, {"x": "fetch_failed"})
        later = NOW + timedelta(days=2)
        night(labels, tracks, {"x": "a label: Jazz"}, at=later, planned_at=later)
        assert held(labels)["x"]["genre_top"] == "Jazz"
        rollback(labels, 1, commits(LabelsTable(labels)))
        for options, expected in (({}, []), ({"policy": Policy(resume=True)}, ["x"])):
            plan = planned(LabelsTable(labels), tracks, at=later, **options)
            assert plan.todo["track_id"].to_pylist() == expected
        assert planned(LabelsTable(labels), tracks, at=later).counts.held == 1

    def test_of_a_failed_retry_leaves_it_to_be_tried(self, labels: Uri) -> None:
        night(labels, {"x": "1"}, {"x": "fetch_failed"})
        later = NOW + timedelta(days=2)
        night(labels, {"x": "1"}, {"x": "fetch_failed"}, at=later, planned_at=later)
        rollback(labels, 0, commits(LabelsTable(labels)))
        assert planned(LabelsTable(labels), {"x": "1"}, at=later).todo.num_rows == 1

    def test_of_a_rollback_ends_its_holds(self, labels: Uri) -> None:
        night(labels, {"a": "1", "c": "1"})
        night(labels, {"a": "2"})
        rollback(labels, 0, commits(LabelsTable(labels)))
        rollback(labels, 1, commits(LabelsTable(labels)))
        night(labels, {"a": "3"})
        plan = planned(LabelsTable(labels), {"a": "2", "c": "1"})
        assert plan.todo["track_id"].to_pylist() == ["a", "c"]
        assert plan.counts.held == 0

    def test_of_a_pruning_of_marked_rows(self, labels: Uri) -> None:
        night(labels, {"a": "1", "b": "1"})
        night(labels, {"a": "1"})
        night(labels, {"a": "1"}, policy=Policy("prune"))
        rollback(labels, 1, commits(LabelsTable(labels)))
        assert planned(LabelsTable(labels), {"a": "1"}, policy=Policy("prune")).removed.num_rows == 0
        # It comes back with other bytes and leaves again: that is another removal.
        night(labels, {"a": "1", "b": "2"})
        plan = planned(LabelsTable(labels), {"a": "1"}, policy=Policy("prune"))
        assert plan.removed["track_id"].to_pylist() == ["b"]


@pytest.mark.parametrize("outcome", ["a label: Jazz", "not_audio"])
def test_tracks_that_are_back_are_guarded(outcome: str, labels: Uri) -> None:
    night(labels, MANY | {"z": "1"})
    night(labels, {"z": "1"})
    table = LabelsTable(labels)
    plan = planned(table, MANY | {"z": "1"})
    assert plan.counts.new == len(MANY)
    stage(table, plan, dict.fromkeys(MANY, outcome))
    with table.joined(plan) as connection:
        [breach] = find_breaches(foresee(connection, plan), GuardLimits())
    assert breach.name == ("flips" if outcome.startswith("a label") else "stale")
    assert breach.tracks == len(MANY)
    chosen, known = choose_canaries(catalog(MANY), table.dataset(), MODEL, FEATURES)
    assert len(known) == chosen.num_rows == 20


@pytest.mark.parametrize(("given", "withdrawn"), [(40, 0), (31, 0), (30, 10), (0, 40)])
def test_a_file_of_corrections_that_was_cut_off(given: int, withdrawn: int, labels: Uri) -> None:
    tracks = [*MANY]
    night(labels, MANY, policy=corrections(*tracks))
    night(labels, dict.fromkeys(tracks[:35], "1"), policy=Policy("mark"))
    table = LabelsTable(labels)
    plan = planned(table, dict.fromkeys(tracks[:35], "1"), policy=corrections(*tracks[:given]))
    with table.joined(plan) as connection:
        breaches = find_breaches(foresee(connection, plan), GuardLimits())
    # The tracks that left the catalog count, since their corrections are to return with them.
    assert [(each.name, each.tracks, each.of) for each in breaches] == [("corrections", withdrawn, 40)] * (given < 31)


def test_an_empty_file_of_corrections_withdraws_none_of_few(labels: Uri) -> None:
    night(labels, {"a": "1", "b": "1"}, policy=corrections("a"))
    table = LabelsTable(labels)
    for given, names in (((), ["corrections"]), (("b",), []), (("a", "b"), [])):
        plan = planned(table, {"a": "1", "b": "1"}, policy=corrections(*given))
        with table.joined(plan) as connection:
            assert [each.name for each in find_breaches(foresee(connection, plan), GuardLimits())] == names


@pytest.fixture(scope="module")
def three_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three files")
    for count in (1, 2, 3):
        night(Uri.of_path(folder), {f"{each}{number}": "1" for each in "abc"[:count] for number in range(5)})
    return folder


class TestReading:
    """What a night reads of a table of several files."""

    @pytest.fixture
    def table(self, three_files: Path, labels: Uri) -> LabelsTable:
        shutil.copytree(three_files, labels.local)
        return LabelsTable(labels)

    @pytest.mark.parametrize(("changes", "fresh", "files", "known"), [
        ({"d1": "1"}, True, 0, 0),
        ({"b7": "1"}, True, 0, 0),
        ({"b2": "2"}, False, 1, 1),
        ({"a2": "2", "c1": "2", "d1": "1"}, False, 2, 2),
        ({"a0": None, "d1": "1"}, True, 1, 0),
    ])  # fmt: skip
    def test_only_files_of_its_tracks(
        self, changes: dict[str, str | None], fresh: bool, files: int, known: int, table: LabelsTable
    ) -> None:
        tracks = {f"{first}{number}": "1" for first in "abc" for number in range(5)} | changes
        plan = planned(table, {track: tag for track, tag in tracks.items() if tag is not None})
        assert plan.fresh == fresh
        stage(table, plan, {"b2": "timeout"})
        with table.joined(plan) as connection:
            assert connection.sql("SELECT count(*) FROM touched").fetchall() == [(5 * files,)]
            outlook = foresee(connection, plan)
            assert connection.sql("SELECT count(*) FROM known").fetchall() == [(known,)]
        assert (outlook.relabeled, outlook.stale) == ((0, 1) if "b2" in changes else (known, 0))
        # Only a share needs it.
        assert outlook.labels == (15 if outlook.stale or outlook.removed else 0)

    def test_a_returning_track_is_not_fresh(self, table: LabelsTable) -> None:
        tracks = {f"{first}{number}": "1" for first in "abc" for number in range(5)}
        night(table.uri, {track: tag for track, tag in tracks.items() if track != "c4"})
        plan = planned(LabelsTable(table.uri), tracks)
        assert (plan.counts.new, plan.fresh) == (1, False)
        night(table.uri, tracks)
        assert held(table.uri)["c4"]["removed_at"] is None

    def test_ids_that_the_log_cuts_short(self, labels: Uri) -> None:
        """Delta states the first 32 characters of a text."""
        long = "é" * 40
        tracks = {f"{long}{number}": "1" for number in range(3)}
        night(labels, tracks)
        night(labels, {**tracks, f"{long}2": "2"})
        assert {track: row["content_tag"] for track, row in held(labels).items()} == {**tracks, f"{long}2": "2"}


@pytest.mark.parametrize("lost", ["all", "entries"])
def test_a_table_whose_log_is_lost_is_not_begun_anew(lost: str, labels: Uri) -> None:
    night(labels, {"a": "1"})
    files.write_bytes(labels / "_reports" / "latest.json", b"{}")
    log = labels.local / "_delta_log"
    shutil.rmtree(log)
    if lost == "entries":
        log.mkdir()
    with pytest.raises(LabelsError, match=f"^{labels}: .*_delta_log .* copy.* another folder"):
        LabelsTable(labels)


def test_a_first_run_that_was_killed_begins_anew(labels: Uri) -> None:
    table = LabelsTable(labels)
    plan = planned(table, {"a": "1"})
    table.run(plan).freeze()
    files.write_table(labels / "part-0.parquet", heard(plan.todo, plan))
    assert not LabelsTable(labels).exists


def test_a_vacuum_does_not_forget_what_is_staged(labels: Uri) -> None:
    night(labels, {"a": "1"})
    night(labels, {"a": "2"})
    table = LabelsTable(labels)
    plan = planned(table, {"a": "3"})
    table.run(plan).freeze()
    stage(table, plan)
    vacuum(labels, 1, older_than=timedelta())
    table = LabelsTable(labels)
    again = planned(table, {"a": "3"})
    assert again.key == plan.key
    assert table.version > table.base == 1
    assert table.run(again).missing().num_rows == 0
    assert table.commit(again, again.key, NOW).version == table.version


def test_a_refused_run_is_heard_again(labels: Uri) -> None:
    night(labels, {"a": "1"})
    table = LabelsTable(labels)
    plan = planned(table, {"a": "2"})
    run = table.run(plan)
    run.freeze()
    stage(table, plan, {"a": "fetch_failed"})
    assert run.refused_for() is None
    assert run.missing().num_rows == 0
    run.mark_refused(["stale", "flips"])
    assert table.run(plan).refused_for() == {"stale", "flips"}
    table.run(plan).begin_again()
    assert table.run(plan).missing().num_rows == 1
    assert table.run(plan).refused_for() is None
