"""`mgc labels vacuum`: files of old versions go, and none that is needed."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from cluster.labels.diff import diff
from cluster.labels.history import commits, open_version, rollback
from cluster.labels.table import LabelsTable
from cluster.labels.vacuum import vacuum
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.parquet import write_part
from tests.support.nights import NOW, heard, held, night, planned, refusal, stage
from tests.support.versions import AT_ONCE, Run, backdate, contents, nights


class TestVacuum:
    def test_the_last_versions_stay(self, uri: Uri, mgc_labels: Run) -> None:
        held_by = nights(uri, 5)
        before = set(files.list_uris(uri))
        code, summary, printed, _ = mgc_labels(
            "vacuum", uri, "--keep", "2", "--older-than", "0", "--dry-run", "--limit", "2"
        )
        assert (code, summary["status"]) == (0, "dry_run")
        assert len(printed.splitlines()) == 3
        assert "and 1 more" in printed
        assert set(files.list_uris(uri)) == before
        code, done, _, _ = mgc_labels("vacuum", uri, "--keep", "2", "--older-than", "0")
        assert (code, done["status"], done["counts"]) == (0, "done", summary["counts"])
        gone = before - set(files.list_uris(uri))
        assert len(gone) == done["counts"]["files"] == 3
        assert done["counts"]["oldest_version"] == 3
        assert [contents(uri, version) for version in (3, 4)] == held_by[3:]
        assert diff(uri, 3, 4).counts["same"] == 2
        for version in range(3):
            assert f"version {version} can no longer be read" in refusal(open_version, uri, version)
        # Its own commits are no versions to keep, and a second one finds nothing to do.
        again = vacuum(uri, 2, AT_ONCE)
        assert (again.files, again.size_bytes, again.oldest) == ([], 0, 3)
        version = LabelsTable(uri).version
        assert rollback(uri, 3, commits(LabelsTable(uri))) == version + 1
        assert contents(uri) == held_by[3]

    def test_what_a_rollback_brought_back_stays(self, uri: Uri) -> None:
        held_by = nights(uri)
        rollback(uri, 0, commits(LabelsTable(uri)))
        assert len(vacuum(uri, 1, AT_ONCE).files) == 3
        assert contents(uri) == held_by[0]
        night(uri, {"a": "9", "b": "1"}, model="model-0")
        assert contents(uri, 0) == held_by[0]

    def test_versions_of_the_last_week_stay(self, uri: Uri, mgc_labels: Run) -> None:
        """Versions 0 to 2 are old. Version 2 was the newest until two days ago."""
        held_by = nights(uri, 5)
        for version, days in enumerate((30, 20, 10, 2, 1)):
            backdate(uri, version, days)
        code, summary, _, said = mgc_labels("vacuum", uri, "--keep", "1")
        assert code == 0
        assert summary["counts"]["files"] == 2
        assert summary["counts"]["spared"] == 2
        assert summary["counts"]["oldest_version"] == 2
        # The newest version replaced the last of them yesterday.
        until = datetime.now(UTC) + timedelta(days=6)
        assert re.search(rf"\b2 younger files .*{until:%Y-%m-%d}", said)
        assert [contents(uri, version) for version in (2, 3, 4)] == held_by[2:]
        # It is no promise for longer than asked.
        assert vacuum(uri, 1, timedelta(hours=36)).oldest == 3
        newest = next(commit for commit in commits(LabelsTable(uri)) if commit.changes_rows)
        spared = vacuum(uri, 1, timedelta(hours=36)).spared
        # The store's time of the commit is a little later than the one that the commit states.
        assert spared.files == 1
        assert spared.until is not None
        assert abs(spared.until - newest.at - timedelta(hours=36)) < timedelta(minutes=1)
        assert vacuum(uri, 1, AT_ONCE).oldest == 4

    def test_clocks_that_differ_spare_more(self, uri: Uri) -> None:
        """The writer of version 1 lived a month ahead, that of version 3 a month behind."""
        nights(uri, 5)
        for version, days in enumerate((20, -30, 10, 40, 8)):
            backdate(uri, version, days)
        assert vacuum(uri, 1).oldest == 0
        assert vacuum(uri, 1).files == []

    @pytest.mark.parametrize("behind", [range(5), range(2, 5), [4], [3]], ids=["all", "last", "newest", "one"])
    def test_writers_whose_clock_is_a_year_behind(self, behind: Iterable[int], uri: Uri) -> None:
        held_by = nights(uri, 5)
        for version in behind:
            backdate(uri, version, 365, store_too=False)
        done = vacuum(uri, 1)
        assert (done.files, done.oldest) == ([], 0)
        assert done.spared is not None
        assert done.spared.files == 4
        assert timedelta(days=6, hours=23) < done.spared.until - datetime.now(UTC) <= timedelta(days=7)
        assert [contents(uri, version) for version in range(5)] == held_by

    def test_one_that_was_behind_and_is_old(self, uri: Uri) -> None:
        """By the store's clock versions 0 to 2 are 40, 30 and 20 days old, and by its writer's version 3 is a year."""
        nights(uri, 5)
        for version, days in enumerate((40, 30, 20)):
            backdate(uri, version, days)
        backdate(uri, 3, 365, store_too=False)
        assert vacuum(uri, 1).oldest == 2

    def test_a_machine_whose_clock_is_a_year_ahead(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        nights(uri)
        before = set(files.list_uris(uri))

        class Ahead(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return super().now(tz) + timedelta(days=365)

        monkeypatch.setattr("cluster.labels.vacuum.datetime", Ahead)
        assert "8,760 hours" in refusal(vacuum, uri, 1)
        assert set(files.list_uris(uri)) == before

    def test_new_tables_lose_nothing(self, uri: Uri, mgc_labels: Run) -> None:
        held_by = nights(uri, 4)
        code, summary, _, said = mgc_labels("vacuum", uri, "--keep", "1", "--dry-run")
        assert (code, summary["counts"]["files"], summary["counts"]["spared"]) == (0, 0, 3)
        assert "3 younger files" in said
        assert vacuum(uri, 1).files == []
        # So it gave no version up.
        assert rollback(uri, 0, commits(LabelsTable(uri))) == 4
        assert contents(uri) == held_by[0]

    @pytest.mark.parametrize("age", ["7", "d", "-1d", "1w", "7 d", "0d0", "1.5d", "", "999999d"])
    def test_what_is_no_age(self, age: str, uri: Uri, mgc_labels: Run) -> None:
        nights(uri, 1)
        code, _, _, said = mgc_labels("vacuum", uri, "--keep", "1", "--older-than", age)
        assert code == 2
        assert "--older-than" in said

    def test_a_larger_number_later_promises_nothing(self, uri: Uri) -> None:
        nights(uri)
        assert vacuum(uri, 1, AT_ONCE).oldest == 3
        assert vacuum(uri, 4, AT_ONCE).oldest == 3

    @pytest.mark.parametrize("appending", [False, True], ids=["merging", "appending"])
    def test_a_run_that_commits_at_this_moment_loses_nothing(
        self, appending: bool, uri: Uri, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its files are written, its commit is not: the vacuum comes between."""
        nights(uri)
        tracks = {"a": "3", "b": "1", "c": "1"} if appending else {"a": "9", "b": "1", "c": "1"}
        table = LabelsTable(uri)
        plan = planned(table, tracks, model="model-3")
        stage(table, plan)
        table.run(plan).freeze()
        # Another one, whose writer has written its rows and has not come to commit them.
        write_part(uri, heard(plan.todo, plan))
        [written] = [each for each in files.list_uris(uri) if "/_" not in each.path and "/part-00000-" not in each.path]
        enter = LabelsTable._enter

        def after_the_vacuum(self: LabelsTable, *args: Any, **options: Any) -> None:
            assert len(vacuum(uri, 1, AT_ONCE).files) == 3
            enter(self, *args, **options)

        monkeypatch.setattr(LabelsTable, "_enter", after_the_vacuum)
        table.commit(plan, plan.key, NOW)
        assert {track: each["content_tag"] for track, each in held(uri).items()} == tracks
        assert files.exists(written)

    def test_what_killed_writers_left_goes_when_it_is_old(self, uri: Uri) -> None:
        nights(uri, 2)
        old, young = (uri.local / f"part-00000-{uuid.uuid4()}-c000.snappy.parquet" for _ in range(2))
        for path in (old, young):
            path.write_bytes(b"half")
        os.utime(old, (NOW.timestamp(), NOW.timestamp()))
        aside = uri.local / "_reports" / "latest.html"
        aside.parent.mkdir()
        aside.write_text("x")
        os.utime(aside, (NOW.timestamp(), NOW.timestamp()))
        done = vacuum(uri, 2, AT_ONCE)
        assert done.files == [old.name]
        assert done.spared is not None
        assert done.spared.files == 1
        assert timedelta(days=6, hours=23) < done.spared.until - datetime.now(UTC) <= timedelta(days=7)
        assert young.exists()
        assert aside.exists()

    @pytest.mark.parametrize(
        "name",
        [
            "song.mp3",
            "part-1.parquet",
            "Artist/Album/song.mp3",
            "embeddings/_delta_log/00000000000000000000.json",
            "embeddings/part-00000-f9cd13e0-db17-41bf-9086-0832a9afe3c3-c000.snappy.parquet",
        ],
    )
    def test_files_of_others_stay_however_old(self, name: str, uri: Uri, mgc_labels: Run) -> None:
        """The folder of a table may also hold music, a catalog or another table."""
        nights(uri, 3)
        stranger, orphan = uri / name, uri / f"part-00000-{uuid.uuid4()}-c000.snappy.parquet"
        for each in (stranger, orphan):
            files.write_bytes(each, b"x")
            os.utime(each.local, (NOW.timestamp(), NOW.timestamp()))
        looked = vacuum(uri, 1, AT_ONCE, dry_run=True)
        code, summary, printed, said = mgc_labels("vacuum", uri, "--keep", "1", "--older-than", "0")
        assert (code, summary["counts"]["strangers"], summary["counts"]["files"]) == (0, 1, 2)
        assert len(looked.files) == len(printed.splitlines()) == 2
        assert looked.strangers == [name]
        assert name in said
        assert files.exists(stranger)
        assert files.exists(orphan)
        files.delete(stranger)
        assert vacuum(uri, 1, AT_ONCE).files == [Path(orphan.path).name]

    def test_a_commit_that_comes_first(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        nights(uri)
        before = set(files.list_uris(uri))
        real = DeltaTable.vacuum

        def too_late(self: DeltaTable, *args: Any, **options: Any) -> Any:
            if not options["dry_run"]:
                rollback(uri, 0, commits(LabelsTable(uri)))
            return real(self, *args, **options)

        monkeypatch.setattr(DeltaTable, "vacuum", too_late)
        assert "vacuum" in refusal(vacuum, uri, 1, AT_ONCE)
        assert before <= set(files.list_uris(uri))

    def test_a_commit_that_comes_while_it_deletes(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its second commit fails, its work is done."""
        nights(uri)
        real = DeltaTable.vacuum

        def interrupted(self: DeltaTable, *args: Any, **options: Any) -> Any:
            real(self, *args, **options)
            if not options["dry_run"]:
                raise DeltaError("Transaction failed: the version is taken")
            return real(self, *args, **options)

        monkeypatch.setattr(DeltaTable, "vacuum", interrupted)
        assert len(vacuum(uri, 2, AT_ONCE).files) == 2
