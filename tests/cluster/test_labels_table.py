"""The labels table: one run one commit, each track once, whatever happens between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import labels_plan, labels_table, storage
from cluster.labels_table import PLAN, LabelsTable, Plan
from cluster.tables import write_part
from mgc import schema
from mgc.errors import ErrorKind, MgcError, StorageError
from tests.nights import (
    FEATURES,
    LABEL,
    MODEL,
    NOW,
    catalog,
    heard,
    held,
    night,
    planned,
    reasons,
    refusal,
    stage,
)
from tests.object_store import ObjectStore


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Of a labels table yet to be."""
    return str(tmp_path / "labels")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cluster)])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, on the disk and in the object store: for what may differ there."""
    base = str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket_uri")
    return storage.join(base, "labels")


class TestNights:
    def test_the_first_commit_creates_the_table_with_its_rows(self, uri: str) -> None:
        table = LabelsTable(uri)
        assert not table.exists
        assert table.version == -1
        plan = planned(table, {"a": "1", "b": "1", "c": "1"})
        assert plan.counts == {
            "new": 3, "changed": 0, "stale": 0, "retry": 0, "waiting": 0, "up_to_date": 0, "pending": 0, "removed": 0,
            "corrected": 0, "unknown_overrides": 0,
        }  # fmt: skip
        assert plan.todo.schema.equals(PLAN)
        table.freeze(plan)
        stage(table, plan, {"b": ErrorKind.NOT_AUDIO})
        assert not LabelsTable(uri).exists
        assert table.commit(plan, "night-1", NOW) == 0
        assert table.version == 0
        assert table.exists
        rows = held(uri)
        assert rows["a"]["status"] == "labeled"
        assert rows["a"]["top_k"] == [{"genre": "Rock", "probability": 0.75}, {"genre": "Jazz", "probability": 0.25}]
        assert rows["a"]["confidence"] == 0.75
        assert rows["a"]["tries"] == 1
        assert rows["b"]["status"] == "quarantined"
        assert rows["b"]["error_kind"] == "not_audio"
        assert rows["b"]["error_offset"] == 4
        assert rows["b"]["duration_seconds"] is None
        assert table.dataset().schema.equals(schema.LABELS)
        delta = DeltaTable(uri, storage_options=storage.delta_options(uri))
        assert delta.transaction_version(labels_table.APPLICATION) == 0
        assert delta.history()[0]["mgc.run_id"] == "night-1"

    def test_nothing_to_do_is_no_commit(self, uri: str) -> None:
        night(uri, {"a": "1"})
        table = LabelsTable(uri)
        plan = planned(table, {"a": "1"})
        assert plan.empty
        assert plan.counts["up_to_date"] == 1
        assert table.commit(plan, plan.key, NOW) == 0
        assert LabelsTable(uri).version == 0

    def test_new_changed_removed_and_back(self, anywhere: str) -> None:
        uri = anywhere
        night(uri, {"a": "1", "b": "1", "c": "1"})
        later = NOW + timedelta(days=1)
        # In another zone, to be kept as UTC.
        plan = night(uri, {"a": "1", "b": "2", "d": "1"}, at=later.astimezone(timezone(timedelta(hours=5))))
        assert reasons(plan) == {"b": "changed", "d": "new"}
        assert plan.removed.to_pydict() == {"track_id": ["c"]}
        assert plan.counts["removed"] == 1
        rows = held(uri)
        assert {track: row["content_tag"] for track, row in rows.items()} == {"a": "1", "b": "2", "c": "1", "d": "1"}
        assert rows["c"]["removed_at"] == later
        assert rows["c"]["labeled_at"] == NOW
        assert rows["c"]["top_k"] == rows["a"]["top_k"]
        assert [rows[track]["removed_at"] for track in "abd"] == [None] * 3
        assert LabelsTable(uri).dataset().schema.field("removed_at").type == pa.timestamp("us", tz="UTC")

        plan = night(uri, {"a": "1", "b": "2", "c": "1", "d": "1"})
        assert reasons(plan) == {"c": "new"}
        assert held(uri)["c"]["removed_at"] is None
        assert LabelsTable(uri).version == 2

    def test_a_removed_track_is_removed_once(self, uri: str) -> None:
        night(uri, {"a": "1", "b": "1"})
        plan = night(uri, {"a": "1"})
        assert not plan.todo.num_rows
        assert LabelsTable(uri).version == 1
        assert planned(LabelsTable(uri), {"a": "1"}).empty
        # Not run by another model either.
        assert reasons(planned(LabelsTable(uri), {"a": "1"}, model="model-2")) == {"a": "stale"}

    def test_only_new_tracks_are_appended(self, uri: str) -> None:
        night(uri, {"a": "1"})
        night(uri, {"a": "1", "b": "1"})
        delta = DeltaTable(uri, storage_options=storage.delta_options(uri))
        assert [entry["operation"] for entry in delta.history()] == ["WRITE", "WRITE"]
        assert delta.history()[0]["operationMetrics"]["num_added_rows"] == 1
        assert sorted(held(uri)) == ["a", "b"]


class TestWhatIsPlanned:
    def test_stale_by_model_or_front_end(self, tmp_path: Path) -> None:
        uri = str(tmp_path)
        night(uri, {"a": "1", "b": "1"}, {"b": ErrorKind.CORRUPT_STREAM})
        table = LabelsTable(uri)
        assert planned(table, {"a": "1", "b": "1"}).empty
        for other in ({"model": "model-2"}, {"features": "features-2"}):
            plan = planned(table, {"a": "1", "b": "1"}, **other)
            assert reasons(plan) == {"a": "stale", "b": "stale"}
            assert plan.todo["tries"].to_pylist() == [0, 0]

    def test_moved_files_are_read_where_they_are_now(self, tmp_path: Path) -> None:
        night(str(tmp_path), {"a": "1"})
        plan = LabelsTable(str(tmp_path)).plan(catalog({"a": "1"}, "s3://elsewhere"), MODEL, FEATURES, {}, None)
        assert reasons(plan) == {"a": "changed"}

    def test_a_failed_fetch_is_tried_again_so_often(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(labels_plan, "MOST_TRIES", 3)
        uri, tracks = str(tmp_path), {"a": "1", "b": "1"}
        outcomes = {"a": ErrorKind.FETCH_FAILED, "b": ErrorKind.TRUNCATED}
        night(uri, tracks, outcomes)
        for tries in (1, 2):
            assert held(uri)["a"]["tries"] == tries
            plan = night(uri, tracks, outcomes)
            assert plan.counts["retry"] == 1
            assert plan.todo.to_pydict()["tries"] == [tries]
        assert held(uri)["a"]["tries"] == 3
        assert planned(LabelsTable(uri), tracks).empty
        # New bytes, or a new model, start from none.
        assert planned(LabelsTable(uri), tracks | {"a": "2"}).todo.to_pydict()["tries"] == [0]
        night(uri, tracks, outcomes, model="model-2")
        assert held(uri)["a"]["tries"] == 1
        assert reasons(night(uri, tracks, model="model-2")) == {"a": "retry"}
        assert held(uri)["a"]["status"] == "labeled"
        assert planned(LabelsTable(uri), tracks, "model-2").empty

    def test_labelling_again_is_not_a_failed_try(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(labels_plan, "MOST_TRIES", 2)
        uri = str(tmp_path)
        for number in range(3):
            night(uri, {"a": "1"}, model=f"model-{number}")
        night(uri, {"a": "1"}, {"a": ErrorKind.FETCH_FAILED}, model="model-x")
        assert planned(LabelsTable(uri), {"a": "1"}, "model-x").counts["retry"] == 1

    def test_a_limit(self, tmp_path: Path) -> None:
        uri, tracks = str(tmp_path), {"a": "1", "b": "1", "c": "1"}
        plan = night(uri, tracks, limit=2)
        assert reasons(plan) == {"a": "new", "b": "new"}
        assert plan.counts["pending"] == 1
        assert sorted(held(uri)) == ["a", "b"]
        plan = planned(LabelsTable(uri), {"b": "1", "c": "1"}, limit=1)
        assert plan.empty
        assert plan.counts == {
            "new": 0, "changed": 0, "stale": 0, "retry": 0, "waiting": 0, "up_to_date": 1, "pending": 1, "removed": 0,
            "corrected": 0, "unknown_overrides": 0,
        }  # fmt: skip
        assert reasons(planned(LabelsTable(uri), tracks, limit=10)) == {"c": "new"}

    def test_the_key_says_what_the_run_depends_on(self, tmp_path: Path) -> None:
        table = LabelsTable(str(tmp_path / "t"))
        tracks = {"a": "1", "b": "2"}
        key = planned(table, tracks).key
        assert planned(LabelsTable(str(tmp_path / "t")), tracks).key == key
        others = [
            planned(table, tracks | {"c": "1"}),
            planned(table, {"a": "1"}),
            planned(table, {"a": "2", "b": "1"}),
            table.plan(catalog(tracks, "s3://elsewhere"), MODEL, FEATURES, {}, None),
            planned(table, tracks, model="model-2"),
            planned(table, tracks, features="features-2"),
            planned(table, tracks, clips=3),
        ]
        night(str(tmp_path / "t"), {"z": "1"})
        others.append(planned(LabelsTable(str(tmp_path / "t")), tracks))
        assert len({key, *(plan.key for plan in others)}) == 1 + len(others)

    def test_the_key_is_the_same_in_another_process(self, tmp_path: Path) -> None:
        tracks = {f"track {number}": str(number) for number in range(300)}
        key = planned(LabelsTable(str(tmp_path)), tracks, a=1, b=[2]).key
        pq.write_table(catalog(tracks).take(np.random.default_rng(0).permutation(300)), tmp_path / "c.parquet")
        script = (
            "import sys, pyarrow.parquet as pq; from cluster.labels_table import LabelsTable\n"
            "t = pq.read_table(sys.argv[1] + '/c.parquet', partitioning=None)\n"
            f"print(LabelsTable(sys.argv[1]).plan(t, {MODEL!r}, {FEATURES!r}, {{'b': [2], 'a': 1}}, None).key)"
        )
        command = [sys.executable, "-c", script, str(tmp_path)]
        environment = {**os.environ, "PYTHONHASHSEED": "7"}
        root = Path(storage.__file__).parents[1]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root, env=environment)
        assert done.stdout.strip() == key, done.stderr

    def test_a_table_with_a_track_twice_is_refused(self, tmp_path: Path) -> None:
        uri = str(tmp_path)
        night(uri, {"a": "1"})
        write_deltalake(uri, LabelsTable(uri).dataset().to_table(), mode="append")
        line = refusal(planned, LabelsTable(uri), {"a": "1"})
        assert f"{uri}: the labels table holds a track more than once" in line


class TestGoingOn:
    """A run that was killed and is submitted again."""

    def test_finds_its_plan_and_its_rows(self, anywhere: str) -> None:
        uri = anywhere
        tracks = {"a": "1", "b": "1", "c": "1"}
        table = LabelsTable(uri)
        plan = planned(table, tracks)
        assert table.missing(plan).equals(plan.todo)
        frozen = table.freeze(plan)
        write_part(table.staged_uri(plan), heard(plan.todo.slice(1, 1), plan))
        again = LabelsTable(uri)
        same = planned(again, tracks)
        assert (same.key, same.version) == (plan.key, -1)
        before = storage.read_bytes(frozen)
        assert again.freeze(same) == frozen
        assert storage.read_bytes(frozen) == before
        location = storage.locate(frozen)
        assert pq.read_table(location.path, filesystem=location.filesystem).equals(plan.todo)
        missing = again.missing(same)
        assert missing["track_id"].to_pylist() == ["a", "c"]
        assert missing.schema.equals(PLAN)
        rest = storage.locate(again.portion(same, missing))
        assert pq.read_table(rest.path, filesystem=rest.filesystem).equals(missing)
        stage(again, same)
        again.commit(same, same.key, NOW)
        assert sorted(held(uri)) == ["a", "b", "c"]

    def test_a_frozen_plan_of_other_rows_is_written_anew(self, tmp_path: Path) -> None:
        table = LabelsTable(str(tmp_path))
        plan = planned(table, {"a": "1", "b": "1"})
        frozen = table.freeze(plan)
        pq.write_table(plan.todo.slice(1), frozen)
        assert table.freeze(plan) == frozen
        assert pq.read_table(frozen, partitioning=None).equals(plan.todo)

    def test_rows_staged_twice_enter_once_and_the_label_wins(self, uri: str) -> None:
        tracks = {"a": "1", "b": "1", "c": "1"}
        table = LabelsTable(uri)
        plan = planned(table, tracks)
        write_part(table.staged_uri(plan), heard(plan.todo, plan, {"a": ErrorKind.FETCH_FAILED}))
        write_part(table.staged_uri(plan), heard(plan.todo.slice(0, 1), plan))
        write_part(table.staged_uri(plan), heard(plan.todo.slice(0, 2), plan, {"a": ErrorKind.FETCH_FAILED}))
        write_part(table.staged_uri(plan), heard(plan.todo.slice(1, 1), plan, at=NOW + timedelta(hours=1)))
        assert not table.missing(plan).num_rows
        table.commit(plan, plan.key, NOW)
        rows = held(uri)
        assert [rows[track]["status"] for track in "abc"] == ["labeled"] * 3
        assert rows["b"]["labeled_at"] == NOW + timedelta(hours=1)

    def test_rows_that_do_not_answer_the_plan_do_not_count(self, tmp_path: Path) -> None:
        uri = str(tmp_path)
        table = LabelsTable(uri)
        tracks = {"a": "1", "b": "1"}
        plan = planned(table, tracks)
        good = heard(plan.todo, plan)
        index = schema.LABELS.get_field_index

        def altered(name: str, value: str | None) -> pa.Table:
            column = pa.array([value] * good.num_rows, schema.LABELS.field(name).type)
            nullable = [field.with_nullable(True) for field in schema.LABELS]
            return good.cast(pa.schema(nullable)).set_column(index(name), name, column)

        for name, value in [
            ("content_tag", "2"), ("uri", "s3://elsewhere/a.mp3"), ("track_id", "z"), ("model_id", "model-2"),
            ("features_id", "features-2"), ("status", "perhaps"), ("status", "quarantined"), ("genre_top", None),
            ("run_id", None), ("labeled_at", None),
        ]:  # fmt: skip
            write_part(table.staged_uri(plan), altered(name, value))
        write_part(table.staged_uri(plan), pa.table({"track_id": ["a", "b"], "content_tag": ["1", "1"]}))
        write_part(table.staged_uri(plan), pa.table({"something": [1.5]}))
        assert table.missing(plan).equals(plan.todo)
        line = refusal(table.commit, plan, plan.key, NOW)
        assert line == (
            f"{uri}: 2 tracks were planned, 0 have a row; nothing was committed. Submit the job again to finish them."
        )
        stage(table, plan)
        table.commit(plan, plan.key, NOW)
        assert {row["content_tag"] for row in held(uri).values()} == {"1"}
        assert sorted(held(uri)) == ["a", "b"]

    def test_a_planned_track_without_a_row_is_no_commit(self, uri: str) -> None:
        night(uri, {"a": "1"})
        table = LabelsTable(uri)
        plan = planned(table, {"a": "2", "b": "1", "c": "1"})
        write_part(table.staged_uri(plan), heard(plan.todo.slice(0, 2), plan))
        assert "3 tracks were planned, 2 have a row" in refusal(table.commit, plan, plan.key, NOW)
        assert LabelsTable(uri).version == 0
        assert held(uri)["a"]["content_tag"] == "1"
        # What was staged is kept for the next submission.
        assert LabelsTable(uri).missing(plan)["track_id"].to_pylist() == ["c"]

    @pytest.mark.parametrize("damage", ["truncated", "empty", "other", "one column"])
    def test_a_staged_file_that_cannot_be_read_is_named(self, damage: str, tmp_path: Path) -> None:
        uri = str(tmp_path)
        table = LabelsTable(uri)
        tracks = {f"{number:04d}": "1" for number in range(500)}
        plan = planned(table, tracks)
        stage(table, plan)
        victim = Path(storage.list_uris(table.staged_uri(plan))[0])
        data = victim.read_bytes()
        # A column that only the commit reads, when it has begun to write.
        group = pq.read_metadata(victim).row_group(0)
        chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "decoder")
        first = chunk.dictionary_page_offset
        damaged = {
            "truncated": data[: len(data) // 2],
            "empty": b"",
            "other": b"These are no labels.",
            "one column": data[:first]
            + bytes(chunk.total_compressed_size)
            + data[first + chunk.total_compressed_size :],
        }[damage]
        victim.write_bytes(damaged)
        line = refusal(table.commit, plan, plan.key, NOW)
        assert f"{victim}: cannot be read as Parquet" in line
        assert "Remove that file and submit the job again" in line
        assert not LabelsTable(uri).exists
        victim.unlink()
        assert 0 < table.missing(plan).num_rows < 500
        stage(table, plan)
        table.commit(plan, plan.key, NOW)
        assert len(held(uri)) == 500

    def test_the_leavings_of_a_killed_writer_do_no_harm(self, tmp_path: Path) -> None:
        table = LabelsTable(str(tmp_path))
        plan = planned(table, {"a": "1"})
        leaving = Path(table.staged_uri(plan)) / ".mgc-0123456789abcdef.tmp"
        leaving.parent.mkdir(parents=True)
        leaving.write_bytes(b"half")
        assert table.staged(plan) is None
        assert table.missing(plan).equals(plan.todo)
        stage(table, plan)
        assert table.commit(plan, plan.key, NOW) == 0


class TestTwoRuns:
    @pytest.mark.parametrize("first", [{}, {"a": "0", "c": "0"}], ids=["creating", "later"])
    def test_one_after_the_other_from_one_version(self, first: dict[str, str], uri: str) -> None:
        if first:
            night(uri, first)
        tables = [LabelsTable(uri), LabelsTable(uri)]
        plans = [planned(table, {"a": "1", "b": "1"}, run=number) for number, table in enumerate(tables)]
        assert plans[0].version == plans[1].version
        for table, plan in zip(tables, plans, strict=True):
            stage(table, plan)
        done = tables[0].commit(plans[0], "one", NOW)
        line = refusal(tables[1].commit, plans[1], "two", NOW)
        assert line == (
            f"{uri}: another run has committed version {done} since this one was planned; nothing of this one was "
            "entered. Submit it again: it plans anew."
        )
        # Nor with an object that knows the version that came meanwhile.
        assert "another run has committed" in refusal(LabelsTable(uri).commit, plans[1], "two", NOW)
        assert LabelsTable(uri).version == done
        assert {row["run_id"] for row in held(uri).values() if row["content_tag"] == "1"} == {plans[0].key}
        assert planned(LabelsTable(uri), {"a": "1", "b": "1"}).empty

    @pytest.mark.parametrize("first", [{}, {"a": "0"}], ids=["creating", "merging"])
    def test_both_have_seen_nobody(self, first: dict[str, str], anywhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.overtaken_at_the_last_moment(anywhere, first, monkeypatch)

    def test_both_have_seen_nobody_appending(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.overtaken_at_the_last_moment(uri, {"z": "0"}, monkeypatch)

    def overtaken_at_the_last_moment(self, uri: str, first: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """The other commits after we have looked and before we write: only the log can decide."""
        if first:
            night(uri, first)
        tables = [LabelsTable(uri), LabelsTable(uri)]
        plans = [planned(table, first | {"a": "1"}, run=number) for number, table in enumerate(tables)]
        for table, plan in zip(tables, plans, strict=True):
            stage(table, plan)
        enter = LabelsTable._enter

        def after_the_other(self: LabelsTable, *args: Any, **options: Any) -> None:
            monkeypatch.setattr(LabelsTable, "_enter", enter)
            tables[0].commit(plans[0], "one", NOW)
            enter(self, *args, **options)

        monkeypatch.setattr(LabelsTable, "_enter", after_the_other)
        version = 1 if first else 0
        line = refusal(tables[1].commit, plans[1], "two", NOW)
        assert line.startswith(f"{uri}: another run has committed version {version} since this one was planned")
        assert LabelsTable(uri).version == version
        assert held(uri)["a"]["run_id"] == plans[0].key
        assert sorted(held(uri)) == sorted(first | {"a": "1"})

    @pytest.mark.parametrize("first", [{}, {"z": "0"}, {"a": "0"}], ids=["creating", "appending", "merging"])
    def test_at_the_same_moment(self, first: dict[str, str], uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a disk only: of two conditional puts at the same moment Swift confirms both."""
        if first:
            night(uri, first)
        tracks = first | {f"{number}": "1" for number in range(50)} | {"a": "1"}
        barrier = threading.Barrier(2, timeout=60)
        enter = LabelsTable._enter

        def together(self: LabelsTable, *args: Any, **options: Any) -> None:
            barrier.wait()
            enter(self, *args, **options)

        monkeypatch.setattr(LabelsTable, "_enter", together)
        said: list[str | int] = []

        def run(table: LabelsTable, plan: Plan) -> None:
            try:
                said.append(table.commit(plan, plan.key, NOW))
            except MgcError as error:
                said.append(f"{type(error).__name__}: {error}")

        runs = []
        for number in range(2):
            table = LabelsTable(uri)
            plan = planned(table, tracks, run=number)
            stage(table, plan)
            runs.append(threading.Thread(target=run, args=(table, plan)))
        for thread in runs:
            thread.start()
        for thread in runs:
            thread.join()
        version = 1 if first else 0
        lines = [each for each in said if each != version]
        assert len(lines) == 1, said
        assert str(lines[0]).startswith(f"LabelsError: {uri}: another run has committed version {version}")
        assert LabelsTable(uri).version == version
        assert sorted(held(uri)) == sorted(tracks)

    def test_a_commit_that_another_one_replaced(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a store without atomic conditional puts does to the first of two."""
        night(uri, {"a": "1"})
        enter, log = LabelsTable._enter, Path(uri, "_delta_log", f"{1:020d}.json")

        def replaced(self: LabelsTable, *args: Any, **options: Any) -> None:
            enter(self, *args, **options)
            other = log.read_text().replace("mgc.attempt", "mgc.other")
            log.write_text(other)

        monkeypatch.setattr(LabelsTable, "_enter", replaced)
        line = refusal(night, uri, {"a": "2"})
        assert line.startswith(f"{uri}: another run has committed version 1 since this one was planned")

    def test_the_same_run_twice(self, tmp_path: Path) -> None:
        """Submitted again while it is still at work: both share a folder, which the first to commit deletes."""
        uri = str(tmp_path)
        tables = [LabelsTable(uri), LabelsTable(uri)]
        plans = [planned(table, {"a": "1"}) for table in tables]
        assert plans[0].key == plans[1].key
        stage(tables[0], plans[0])
        tables[0].commit(plans[0], plans[0].key, NOW)
        assert "another run has committed" in refusal(tables[1].commit, plans[1], plans[1].key, NOW)

    def test_maintenance_meanwhile_is_no_other_run(self, uri: str) -> None:
        night(uri, {"a": "1", "b": "1"})
        night(uri, {"a": "2", "b": "1"})
        table = LabelsTable(uri)
        plan = planned(table, {"a": "3", "c": "1"})
        table.freeze(plan)
        stage(table, plan)
        delta = DeltaTable(uri, storage_options=storage.delta_options(uri))
        delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
        assert delta.version() > plan.version
        table.commit(plan, plan.key, NOW)
        assert {track: row["content_tag"] for track, row in held(uri).items()} == {"a": "3", "b": "1", "c": "1"}

    def test_an_answer_that_was_lost(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The commit is there, and its writer was told that it failed."""
        enter = LabelsTable._enter

        def deaf(self: LabelsTable, *args: Any, **options: Any) -> None:
            enter(self, *args, **options)
            raise DeltaError("connection reset")

        for tracks in ({"a": "1"}, {"a": "1", "b": "1"}, {"a": "2", "b": "1"}):
            with monkeypatch.context() as patch:
                patch.setattr(LabelsTable, "_enter", deaf)
                night(str(tmp_path), tracks)
            assert {track: row["content_tag"] for track, row in held(str(tmp_path)).items()} == tracks
        assert LabelsTable(str(tmp_path)).version == 2


class TestRunFolder:
    def test_is_gone_after_the_commit(self, uri: str) -> None:
        table = LabelsTable(uri)
        plan = planned(table, {"a": "1"})
        assert table.run_uri(plan).startswith(storage.join(uri, "_runs") + "/")
        table.freeze(plan)
        stage(table, plan)
        table.commit(plan, plan.key, NOW)
        assert not storage.exists(table.run_uri(plan))
        assert storage.list_uris(storage.join(uri, "_runs")) == []

    def test_what_killed_runs_left_goes_with_a_later_one(self, uri: str) -> None:
        table = LabelsTable(uri)
        killed = planned(table, {"a": "1"}, options="others")
        table.freeze(killed)
        night(uri, {"a": "1"})
        # Planned from the same version: it may still be at work.
        assert storage.exists(table.run_uri(killed))
        night(uri, {"a": "2"})
        assert not storage.exists(table.run_uri(killed))

    def test_one_that_cannot_be_deleted_does_not_undo_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(uri: str) -> None:
            raise StorageError(f"cannot delete {uri}: permission is denied; change it.")

        monkeypatch.setattr(storage, "delete", refuse)
        night(str(tmp_path), {"a": "1"})
        assert LabelsTable(str(tmp_path)).version == 0
        assert "committed, but its folder is still there: cannot delete" in caplog.text

    def test_readers_and_vacuum_do_not_see_it(self, anywhere: str) -> None:
        uri = anywhere
        night(uri, {"a": "1", "b": "1"})
        table = LabelsTable(uri)
        plan = planned(table, {"a": "1", "b": "2", "c": "1"})
        table.freeze(plan)
        stage(table, plan)
        before = storage.list_uris(uri)
        options = storage.delta_options(uri)
        delta = DeltaTable(uri, storage_options=options)
        assert delta.to_pyarrow_dataset().count_rows() == 2
        with duckdb.connect() as connection:
            connection.register("labels", delta.to_pyarrow_dataset())
            query = (
                "SELECT status, count(*), max(labeled_at) = TIMESTAMPTZ '2026-03-01 02:30:00+00' FROM labels GROUP BY 1"
            )
            assert connection.sql(query).fetchall() == [("labeled", 2, True)]
        assert sorted(delta.to_pandas()["track_id"]) == ["a", "b"]
        for full in (False, True):
            delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=full)
        assert [each for each in before if each not in storage.list_uris(uri)] == []
        assert not table.missing(plan).num_rows
        table.commit(plan, plan.key, NOW)
        assert {track: row["content_tag"] for track, row in held(uri).items()} == {"a": "1", "b": "2", "c": "1"}

    def test_vacuum_leaves_the_last_table(self, uri: str) -> None:
        for tag in "123":
            night(uri, {"a": tag, "b": "1"})
        delta = DeltaTable(uri, storage_options=storage.delta_options(uri))
        gone = delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
        assert len(gone) == 2
        assert held(uri)["a"]["content_tag"] == "3"
        assert LabelsTable(uri).version > 2
        assert reasons(night(uri, {"a": "4", "b": "1"})) == {"a": "changed"}

    @pytest.mark.parametrize("name", ["with space", "a+b=c&{d}", "ä 日本"])
    def test_odd_names(self, name: str, tmp_path: Path) -> None:
        uri = str(tmp_path / name)
        for tag in "12":
            night(uri, {"a": tag})
        assert held(uri)["a"]["content_tag"] == "2"
        assert [path.name for path in tmp_path.iterdir()] == [name]


class TestWhatIsNoLabelsTable:
    @pytest.mark.parametrize(
        "uri",
        ["/x/a%41", "/x/[live]", "/x/a|b", "/x/a\\b", "/x/a\nb", "/x/a#b", "s3://b/c#x", "s3://b/c?x", "s3://b/c%20d"],
    )
    def test_names_that_deltalake_misreads(self, uri: str, s3_environment: ObjectStore) -> None:
        assert "a Delta table cannot lie in a folder with " in refusal(LabelsTable, uri)

    def test_nothing_there(self, anywhere: str) -> None:
        line = refusal(LabelsTable(anywhere).dataset)
        assert line.startswith(f"{anywhere}: there is no labels table here; `mgc label")

    @pytest.mark.cluster
    def test_missing_bucket(self, s3_environment: ObjectStore) -> None:
        line = refusal(LabelsTable, "s3://no-such-bucket-here/labels", error=StorageError)
        assert line.startswith("cannot look up s3://no-such-bucket-here/labels: the bucket does not exist")

    @pytest.mark.cluster
    def test_wrong_credentials(
        self, bucket_uri: str, s3_environment: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table = LabelsTable(bucket_uri + "/labels")
        plan = planned(table, {"a": "1"})
        stage(table, plan)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-wrong-secret")
        for action, args in ((LabelsTable, (table.uri,)), (table.commit, (plan, plan.key, NOW))):
            line = refusal(action, *args, error=StorageError)
            assert "the store refuses the credentials" in line
            assert s3_environment.secret_key not in line
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_environment.secret_key)
        assert not LabelsTable(table.uri).exists

    def test_a_file(self, anywhere: str) -> None:
        storage.write_bytes(anywhere, b"x")
        assert refusal(LabelsTable, anywhere).startswith(f"{anywhere} is a file; a labels table is a folder")

    def test_another_delta_table(self, tmp_path: Path) -> None:
        write_deltalake(str(tmp_path), pa.table({"title": ["x"]}))
        line = refusal(LabelsTable, str(tmp_path))
        assert "is a Delta table, but no labels table of mgc: it lacks track_id, uri" in line

    def test_a_newer_format(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        night(str(tmp_path), {"a": "1"})
        night(str(tmp_path), {"a": "2", "b": "1"})
        monkeypatch.setattr(schema, "FORMAT_VERSION", 0)
        line = refusal(LabelsTable, str(tmp_path))
        assert line == f"{tmp_path}: format version 1, this mgc reads up to 0; upgrade mgc."

    def test_a_damaged_log(self, tmp_path: Path) -> None:
        night(str(tmp_path), {"a": "1"})
        (tmp_path / "_delta_log" / f"{0:020d}.json").write_text("{")
        line = refusal(LabelsTable, str(tmp_path))
        assert line.startswith(f"{tmp_path}: the labels table cannot be opened (")

    def test_a_data_file_that_is_gone(self, tmp_path: Path) -> None:
        night(str(tmp_path), {"a": "1"})
        for path in tmp_path.glob("*.parquet"):
            path.unlink()
        line = refusal(planned, LabelsTable(str(tmp_path)), {"a": "1"}, error=MgcError)
        assert str(tmp_path) in line


class TestNoRoom:
    def test_a_full_disk(self, tmp_path: Path) -> None:
        """In a mount namespace of its own, so that nothing stays mounted whatever happens to the test."""
        if shutil.which("unshare") is None or shutil.which("mount") is None:
            pytest.skip("needs unshare and mount (util-linux) to make a small disk")
        script = 'mount -t tmpfs -o size=512k tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1" "$4"'
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "-", str(tmp_path), sys.executable]
        root = Path(storage.__file__).parents[1]
        with tempfile.TemporaryDirectory() as elsewhere:
            done = subprocess.run(
                [*command, ON_A_SMALL_DISK, elsewhere], capture_output=True, text=True, timeout=120, cwd=root
            )
        if done.returncode == 77 or "unshare:" in done.stderr:
            pytest.skip(f"this machine does not let us mount a small disk: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["tracks"] == ["a"]
        assert said["version"] == 0
        for step in ("freeze", "stage", "commit"):
            assert said[step].startswith("StorageError: cannot "), said
            assert "the disk is full; free some space or choose another place." in said[step]
        assert said["with room again"] == 1

    def test_a_folder_that_is_shut(self) -> None:
        # Not in pytest's own folder, into which an ordinary user cannot even look.
        with tempfile.TemporaryDirectory() as folder:
            uri = f"{folder}/labels"
            night(uri, {"a": "1"})
            table = LabelsTable(uri)
            plan = planned(table, {"a": "2"})
            stage(table, plan)
            for path in (Path(folder), Path(uri), Path(uri, "_delta_log")):
                path.chmod(0o555)
            with as_ordinary_user():
                line = refusal(table.commit, plan, plan.key, NOW, error=StorageError)
            for path in (Path(folder), Path(uri), Path(uri, "_delta_log")):
                path.chmod(0o755)
            assert line.startswith(f"cannot commit labels to {uri}: permission is denied")
            assert held(uri)["a"]["content_tag"] == "1"
            assert table.commit(plan, plan.key, NOW) == 1

    def test_a_write_that_fails_half_way(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Data files are written, the log is not: readers see yesterday, and the next submission commits."""
        night(uri, {"a": "1"})
        tracks = {"a": "2", "b": "1"}
        with monkeypatch.context() as patch:
            patch.setattr(LabelsTable, "_enter", leave_half)
            line = refusal(night, uri, tracks)
        assert line == f"{uri}: the commit failed and the table is as it was (out of luck); submit the job again."
        assert LabelsTable(uri).version == 0
        assert held(uri)["a"]["content_tag"] == "1"
        night(uri, tracks)
        assert {track: row["content_tag"] for track, row in held(uri).items()} == tracks


def leave_half(self: LabelsTable, rows: pa.RecordBatchReader, *args: Any, **options: Any) -> None:
    write_part(self.uri, rows.read_all())
    raise DeltaError("out of luck")


class as_ordinary_user:  # noqa: N801
    """Root may do everything: be nobody for a while."""

    def __enter__(self) -> None:
        self.root = os.geteuid() == 0
        if self.root:
            os.seteuid(65534)

    def __exit__(self, *args: object) -> None:
        if self.root:
            os.seteuid(0)


ON_A_SMALL_DISK = f"""
import importlib.util, json, os, sys
from pathlib import Path
from cluster import storage
spec = importlib.util.spec_from_file_location("these_tests", {str(Path(__file__))!r})
tests = importlib.util.module_from_spec(spec); sys.modules["these_tests"] = tests; spec.loader.exec_module(tests)
disk, elsewhere = sys.argv[1], sys.argv[2]
uri, said = disk + "/labels", {{}}
tests.night(uri, {{"a": "1"}})
def attempt(step, action):
    try:
        action(); said[step] = None
    except tests.MgcError as error:
        said[step] = type(error).__name__ + ": " + str(error)
many = {{f"{{number:05d}}" + os.urandom(8).hex(): os.urandom(16).hex() for number in range(3000)}} | {{"a": "1"}}
table = tests.LabelsTable(uri)
plan = tests.planned(table, many)
few = tests.planned(table, {{"a": "1", "b": os.urandom(16).hex()}})
filler = Path(disk, "filler")
def fill(leave):
    filler.write_bytes(bytes(os.statvfs(disk).f_bavail * 4096 - leave))
fill(8 << 10)
attempt("freeze", lambda: table.freeze(plan))
attempt("stage", lambda: tests.stage(table, plan))
filler.unlink()
tests.stage(table, few)
fill(0)
attempt("commit", lambda: table.commit(few, few.key, tests.NOW))
latest = tests.LabelsTable(uri)
said["tracks"], said["version"] = sorted(tests.held(uri)), latest.version
filler.unlink()
said["with room again"] = table.commit(few, few.key, tests.NOW)
print(json.dumps(said))
"""


# Nights at random against a model of what the table must hold


TRACKS = st.sampled_from("abcdef")
OUTCOMES = st.sampled_from([LABEL, LABEL, ErrorKind.FETCH_FAILED, ErrorKind.CORRUPT_STREAM])
NIGHT = st.fixed_dictionaries(
    {
        "catalog": st.dictionaries(TRACKS, st.sampled_from("12"), min_size=1),
        "model": st.sampled_from(["model-1", "model-1", "model-2"]),
        "outcomes": st.dictionaries(TRACKS, OUTCOMES),
        "limit": st.sampled_from([None, None, None, 2]),
        "killed": st.booleans(),
        "twice": st.booleans(),
    }
)


def expected(table: dict[str, dict[str, Any]], each: dict[str, Any]) -> tuple[dict[str, str], set[str]]:
    """Reasons and removed tracks of a night, said without SQL."""
    todo = {}
    for track in sorted(each["catalog"])[: each["limit"]]:
        row = table.get(track)
        if row is None or row["removed"]:
            todo[track] = "new"
        elif row["content_tag"] != each["catalog"][track]:
            todo[track] = "changed"
        elif row["model_id"] != each["model"]:
            todo[track] = "stale"
        elif row["error_kind"] == "fetch_failed" and row["tries"] < labels_plan.MOST_TRIES:
            todo[track] = "retry"
    removed = {track for track, row in table.items() if track not in each["catalog"] and not row["removed"]}
    return todo, removed if each["limit"] is None else set()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(NIGHT, min_size=1, max_size=4))
def test_any_sequence_of_nights(nights: list[dict[str, Any]]) -> None:
    table: dict[str, dict[str, Any]] = {}
    version = -1
    with tempfile.TemporaryDirectory() as uri:
        for each in nights:
            todo, removed = expected(table, each)
            labels = LabelsTable(uri)
            plan = planned(labels, each["catalog"], each["model"], limit=each["limit"])
            assert reasons(plan) == todo
            assert set(plan.removed["track_id"].to_pylist()) == removed
            assert plan.counts["up_to_date"] + len(todo) + plan.counts["pending"] == len(each["catalog"])
            outcomes = {track: each["outcomes"].get(track, LABEL) for track in todo}
            if each["killed"] and todo:
                labels.freeze(plan)
                write_part(labels.staged_uri(plan), heard(plan.todo.slice(0, 2), plan, outcomes))
                if len(todo) > 2:
                    refusal(labels.commit, plan, plan.key, NOW)
                labels = LabelsTable(uri)
                plan = planned(labels, each["catalog"], each["model"], limit=each["limit"])
            stage(labels, plan, outcomes)
            if each["twice"] and todo:
                write_part(labels.staged_uri(plan), heard(plan.todo, plan, outcomes))
            version += not plan.empty
            assert labels.commit(plan, plan.key, NOW) == version
            for track in todo:
                failed = outcomes[track] != LABEL
                table[track] = {
                    "content_tag": each["catalog"][track],
                    "model_id": each["model"],
                    "error_kind": str(outcomes[track]) if failed else None,
                    "tries": (table[track]["tries"] if todo[track] == "retry" else 0) + 1,
                    "removed": False,
                }
            for track in removed:
                table[track]["removed"] = True
            if version >= 0:
                names = ("content_tag", "model_id", "error_kind", "tries")
                assert table == {
                    track: {**{name: row[name] for name in names}, "removed": row["removed_at"] is not None}
                    for track, row in held(uri).items()
                }
