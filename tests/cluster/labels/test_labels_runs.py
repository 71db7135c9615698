"""Runs of the labels table that are killed, that meet another one, or that find no room."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from cluster.labels.plan import PLAN, Plan
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.parquet import write_part
from mgc import schema
from mgc.errors import ErrorKind, MgcError, StorageError
from tests.support.nights import NOW, heard, held, night, planned, reasons, refusal, stage


class TestGoingOn:
    """A run that was killed and is submitted again."""

    def test_finds_its_plan_and_its_rows(self, anywhere: Uri) -> None:
        uri = anywhere
        tracks = {"a": "1", "b": "1", "c": "1"}
        table = LabelsTable(uri)
        plan = planned(table, tracks)
        assert table.run(plan).missing().equals(plan.todo)
        frozen = table.run(plan).freeze()
        write_part(table.run(plan).staged_uri, heard(plan.todo.slice(1, 1), plan))
        again = LabelsTable(uri)
        same = planned(again, tracks)
        assert (same.key, same.version) == (plan.key, -1)
        before = files.read_bytes(frozen)
        assert again.run(same).freeze() == frozen
        assert files.read_bytes(frozen) == before
        assert pq.read_table(frozen.path, filesystem=frozen.filesystem).equals(plan.todo)
        missing = again.run(same).missing()
        assert missing["track_id"].to_pylist() == ["a", "c"]
        assert missing.schema.equals(PLAN)
        rest = again.run(same).portion(missing)
        assert pq.read_table(rest.path, filesystem=rest.filesystem).equals(missing)
        stage(again, same)
        again.commit(same, same.key, NOW)
        assert sorted(held(uri)) == ["a", "b", "c"]

    def test_a_frozen_plan_of_other_rows_is_written_anew(self, tmp_path: Path) -> None:
        table = LabelsTable(Uri.of_path(tmp_path))
        plan = planned(table, {"a": "1", "b": "1"})
        frozen = table.run(plan).freeze()
        pq.write_table(plan.todo.slice(1), frozen.local)
        assert table.run(plan).freeze() == frozen
        assert pq.read_table(frozen.local, partitioning=None).equals(plan.todo)

    def test_rows_staged_twice_enter_once_and_the_label_wins(self, uri: Uri) -> None:
        tracks = {"a": "1", "b": "1", "c": "1"}
        table = LabelsTable(uri)
        plan = planned(table, tracks)
        write_part(table.run(plan).staged_uri, heard(plan.todo, plan, {"a": ErrorKind.FETCH_FAILED}))
        write_part(table.run(plan).staged_uri, heard(plan.todo.slice(0, 1), plan))
        write_part(table.run(plan).staged_uri, heard(plan.todo.slice(0, 2), plan, {"a": ErrorKind.FETCH_FAILED}))
        write_part(table.run(plan).staged_uri, heard(plan.todo.slice(1, 1), plan, at=NOW + timedelta(hours=1)))
        assert not table.run(plan).missing().num_rows
        table.commit(plan, plan.key, NOW)
        rows = held(uri)
        assert [rows[track]["status"] for track in "abc"] == ["labeled"] * 3
        assert rows["b"]["labeled_at"] == NOW + timedelta(hours=1)

    def test_rows_that_do_not_answer_the_plan_do_not_count(self, tmp_path: Path) -> None:
        uri = Uri.of_path(tmp_path)
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
            write_part(table.run(plan).staged_uri, altered(name, value))
        write_part(table.run(plan).staged_uri, pa.table({"track_id": ["a", "b"], "content_tag": ["1", "1"]}))
        write_part(table.run(plan).staged_uri, pa.table({"something": [1.5]}))
        assert table.run(plan).missing().equals(plan.todo)
        line = refusal(table.commit, plan, plan.key, NOW)
        assert re.match(rf"{re.escape(str(uri))}: .*\b2 tracks\b.*\b0\b", line)
        stage(table, plan)
        table.commit(plan, plan.key, NOW)
        assert {row["content_tag"] for row in held(uri).values()} == {"1"}
        assert sorted(held(uri)) == ["a", "b"]

    def test_a_planned_track_without_a_row_is_no_commit(self, uri: Uri) -> None:
        night(uri, {"a": "1"})
        table = LabelsTable(uri)
        plan = planned(table, {"a": "2", "b": "1", "c": "1"})
        write_part(table.run(plan).staged_uri, heard(plan.todo.slice(0, 2), plan))
        assert re.search(r"\b3 tracks\b.*\b2\b", refusal(table.commit, plan, plan.key, NOW))
        assert LabelsTable(uri).version == 0
        assert held(uri)["a"]["content_tag"] == "1"
        # What was staged is kept for the next submission.
        assert LabelsTable(uri).run(plan).missing()["track_id"].to_pylist() == ["c"]

    @pytest.mark.parametrize("damage", ["truncated", "empty", "other", "one column"])
    def test_a_staged_file_that_is_damaged_before_the_commit_is_set_aside(self, damage: str, tmp_path: Path) -> None:
        uri = Uri.of_path(tmp_path)
        table = LabelsTable(uri)
        tracks = {f"{number:04d}": "1" for number in range(500)}
        plan = planned(table, tracks)
        stage(table, plan)
        victim = files.list_uris(table.run(plan).staged_uri)[0].local
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
        assert f"{victim}: " in line
        assert not LabelsTable(uri).exists
        assert not victim.exists()
        assert (table.run(plan).set_aside_uri.local / "staged" / victim.name).read_bytes() == damaged
        assert 0 < table.run(plan).missing().num_rows < 500
        stage(table, plan)
        table.commit(plan, plan.key, NOW)
        assert len(held(uri)) == 500

    def test_the_leavings_of_a_killed_writer_do_no_harm(self, tmp_path: Path) -> None:
        table = LabelsTable(Uri.of_path(tmp_path))
        plan = planned(table, {"a": "1"})
        leaving = table.run(plan).staged_uri.local / ".mgc-0123456789abcdef.tmp"
        leaving.parent.mkdir(parents=True)
        leaving.write_bytes(b"half")
        assert table.run(plan).staged() is None
        assert table.run(plan).missing().equals(plan.todo)
        stage(table, plan)
        assert table.commit(plan, plan.key, NOW).version == 0


class TestTwoRuns:
    @pytest.mark.parametrize("first", [{}, {"a": "0", "c": "0"}], ids=["creating", "later"])
    def test_one_after_the_other_from_one_version(self, first: dict[str, str], uri: Uri) -> None:
        if first:
            night(uri, first)
        tables = [LabelsTable(uri), LabelsTable(uri)]
        plans = [planned(table, {"a": "1", "b": "1"}, run=number) for number, table in enumerate(tables)]
        assert plans[0].version == plans[1].version
        for table, plan in zip(tables, plans, strict=True):
            stage(table, plan)
        done = tables[0].commit(plans[0], "one", NOW).version
        line = refusal(tables[1].commit, plans[1], "two", NOW)
        assert line.startswith(f"{uri}: ")
        assert f"version {done} " in line
        # Nor with an object that knows the version that came meanwhile.
        assert "another run" in refusal(LabelsTable(uri).commit, plans[1], "two", NOW)
        assert LabelsTable(uri).version == done
        assert {row["run_id"] for row in held(uri).values() if row["content_tag"] == "1"} == {plans[0].key}
        assert planned(LabelsTable(uri), {"a": "1", "b": "1"}).empty

    @pytest.mark.parametrize("first", [{}, {"a": "0"}], ids=["creating", "merging"])
    def test_both_have_seen_nobody(self, first: dict[str, str], anywhere: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        self.overtaken_at_the_last_moment(anywhere, first, monkeypatch)

    def test_both_have_seen_nobody_appending(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        self.overtaken_at_the_last_moment(uri, {"z": "0"}, monkeypatch)

    def overtaken_at_the_last_moment(self, uri: Uri, first: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert line.startswith(f"{uri}: ")
        assert f"version {version} " in line
        assert LabelsTable(uri).version == version
        assert held(uri)["a"]["run_id"] == plans[0].key
        assert sorted(held(uri)) == sorted(first | {"a": "1"})

    @pytest.mark.parametrize("first", [{}, {"z": "0"}, {"a": "0"}], ids=["creating", "appending", "merging"])
    def test_at_the_same_moment(self, first: dict[str, str], uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
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
                said.append(table.commit(plan, plan.key, NOW).version)
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
        assert str(lines[0]).startswith(f"LabelsError: {uri}: ")
        assert f"version {version} " in str(lines[0])
        assert LabelsTable(uri).version == version
        assert sorted(held(uri)) == sorted(tracks)

    def test_a_commit_that_another_one_replaced(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a store without atomic conditional puts does to the first of two."""
        night(uri, {"a": "1"})
        enter, log = LabelsTable._enter, uri.local / "_delta_log" / f"{1:020d}.json"

        def replaced(self: LabelsTable, *args: Any, **options: Any) -> None:
            enter(self, *args, **options)
            other = log.read_text().replace("mgc.attempt", "mgc.other")
            log.write_text(other)

        monkeypatch.setattr(LabelsTable, "_enter", replaced)
        line = refusal(night, uri, {"a": "2"})
        assert line.startswith(f"{uri}: ")
        assert "version 1 " in line

    def test_the_same_run_twice(self, tmp_path: Path) -> None:
        """Submitted again while it is still at work: both share a folder, which the first to commit deletes."""
        uri = Uri.of_path(tmp_path)
        tables = [LabelsTable(uri), LabelsTable(uri)]
        plans = [planned(table, {"a": "1"}) for table in tables]
        assert plans[0].key == plans[1].key
        stage(tables[0], plans[0])
        tables[0].commit(plans[0], plans[0].key, NOW)
        assert "another run" in refusal(tables[1].commit, plans[1], plans[1].key, NOW)

    def test_maintenance_meanwhile_is_no_other_run(self, uri: Uri) -> None:
        night(uri, {"a": "1", "b": "1"})
        night(uri, {"a": "2", "b": "1"})
        table = LabelsTable(uri)
        plan = planned(table, {"a": "3", "c": "1"})
        table.run(plan).freeze()
        stage(table, plan)
        delta = DeltaTable(uri.text, storage_options=uri.storage_options)
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
                night(Uri.of_path(tmp_path), tracks)
            assert {track: row["content_tag"] for track, row in held(Uri.of_path(tmp_path)).items()} == tracks
        assert LabelsTable(Uri.of_path(tmp_path)).version == 2


class TestRunFolder:
    def test_is_gone_after_the_commit(self, uri: Uri) -> None:
        table = LabelsTable(uri)
        plan = planned(table, {"a": "1"})
        assert table.run(plan).uri.parent == uri / "_runs"
        table.run(plan).freeze()
        stage(table, plan)
        table.commit(plan, plan.key, NOW)
        assert not files.exists(table.run(plan).uri)
        assert files.list_uris(uri / "_runs") == []

    def test_what_killed_runs_left_goes_with_a_later_one(self, uri: Uri) -> None:
        table = LabelsTable(uri)
        killed = planned(table, {"a": "1"}, options="others")
        table.run(killed).freeze()
        night(uri, {"a": "1"})
        # Planned from the same version: it may still be at work.
        assert files.exists(table.run(killed).uri)
        night(uri, {"a": "2"})
        assert not files.exists(table.run(killed).uri)

    def test_one_that_cannot_be_deleted_does_not_undo_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def refuse(uri: Uri) -> None:
            raise StorageError(f"cannot delete {uri}: permission is denied; change it.")

        monkeypatch.setattr(files, "delete", refuse)
        night(Uri.of_path(tmp_path), {"a": "1"})
        assert LabelsTable(Uri.of_path(tmp_path)).version == 0
        assert "cannot delete" in capsys.readouterr().err

    def test_readers_and_vacuum_do_not_see_it(self, anywhere: Uri) -> None:
        uri = anywhere
        night(uri, {"a": "1", "b": "1"})
        table = LabelsTable(uri)
        plan = planned(table, {"a": "1", "b": "2", "c": "1"})
        table.run(plan).freeze()
        stage(table, plan)
        before = files.list_uris(uri)
        options = uri.storage_options
        delta = DeltaTable(uri.text, storage_options=options)
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
        assert [each for each in before if each not in files.list_uris(uri)] == []
        assert not table.run(plan).missing().num_rows
        table.commit(plan, plan.key, NOW)
        assert {track: row["content_tag"] for track, row in held(uri).items()} == {"a": "1", "b": "2", "c": "1"}

    def test_vacuum_leaves_the_last_table(self, uri: Uri) -> None:
        for tag in "123":
            night(uri, {"a": tag, "b": "1"})
        delta = DeltaTable(uri.text, storage_options=uri.storage_options)
        gone = delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
        assert len(gone) == 2
        assert held(uri)["a"]["content_tag"] == "3"
        assert LabelsTable(uri).version > 2
        assert reasons(night(uri, {"a": "4", "b": "1"})) == {"a": "changed"}

    @pytest.mark.parametrize("name", ["with space", "a+b=c&{d}", "ä 日本"])
    def test_odd_names(self, name: str, tmp_path: Path) -> None:
        uri = str(tmp_path / name)
        for tag in "12":
            night(Uri.parse(uri), {"a": tag})
        assert held(Uri.parse(uri))["a"]["content_tag"] == "2"
        assert [path.name for path in tmp_path.iterdir()] == [name]
