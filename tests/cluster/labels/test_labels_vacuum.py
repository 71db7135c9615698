"""`mgc labels vacuum`: files of old versions go, and none that is needed."""

from __future__ import annotations

import os
from typing import Any

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from cluster.labels.diff import diff
from cluster.labels.history import commits, open_version, rollback, vacuum
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.parquet import write_part
from tests.support.nights import NOW, heard, held, night, planned, refusal, stage
from tests.support.versions import Run, contents, nights


class TestVacuum:
    def test_the_last_versions_stay(self, uri: Uri, mgc_labels: Run) -> None:
        held_by = nights(uri, 5)
        before = set(files.list_uris(uri))
        code, summary, printed, _ = mgc_labels("vacuum", uri, "--keep", "2", "--dry-run", "--limit", "2")
        assert (code, summary["status"]) == (0, "dry_run")
        assert len(printed.splitlines()) == 3
        assert "and 1 more" in printed
        assert set(files.list_uris(uri)) == before
        code, done, _, _ = mgc_labels("vacuum", uri, "--keep", "2")
        assert (code, done["status"], done["counts"]) == (0, "done", summary["counts"])
        gone = before - set(files.list_uris(uri))
        assert len(gone) == done["counts"]["files"] == 3
        assert done["counts"]["oldest_version"] == 3
        assert [contents(uri, version) for version in (3, 4)] == held_by[3:]
        assert diff(uri, 3, 4).counts["same"] == 2
        for version in range(3):
            assert f"version {version} can no longer be read" in refusal(open_version, uri, version)
        # Its own commits are no versions to keep, and a second one finds nothing to do.
        again = vacuum(uri, 2)
        assert (again.files, again.size_bytes, again.oldest) == ([], 0, 3)
        version = LabelsTable(uri).version
        assert rollback(uri, 3, commits(LabelsTable(uri))) == version + 1
        assert contents(uri) == held_by[3]

    def test_what_a_rollback_brought_back_stays(self, uri: Uri) -> None:
        held_by = nights(uri)
        rollback(uri, 0, commits(LabelsTable(uri)))
        assert len(vacuum(uri, 1).files) == 3
        assert contents(uri) == held_by[0]
        night(uri, {"a": "9", "b": "1"}, model="model-0")
        assert contents(uri, 0) == held_by[0]

    def test_a_larger_number_later_promises_nothing(self, uri: Uri) -> None:
        nights(uri)
        assert vacuum(uri, 1).oldest == 3
        assert vacuum(uri, 4).oldest == 3

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
            assert len(vacuum(uri, 1).files) == 3
            enter(self, *args, **options)

        monkeypatch.setattr(LabelsTable, "_enter", after_the_vacuum)
        table.commit(plan, plan.key, NOW)
        assert {track: each["content_tag"] for track, each in held(uri).items()} == tracks
        assert files.exists(written)

    def test_what_killed_writers_left_goes_when_it_is_old(self, uri: Uri) -> None:
        nights(uri, 2)
        old, young = uri.local / "part-old.parquet", uri.local / "part-young.parquet"
        for path in (old, young):
            path.write_bytes(b"half")
        os.utime(old, (NOW.timestamp(), NOW.timestamp()))
        aside = uri.local / "_reports" / "latest.html"
        aside.parent.mkdir()
        aside.write_text("x")
        os.utime(aside, (NOW.timestamp(), NOW.timestamp()))
        assert vacuum(uri, 2).files == ["part-old.parquet"]
        assert young.exists()
        assert aside.exists()

    def test_a_commit_that_comes_first(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        nights(uri)
        before = set(files.list_uris(uri))
        real = DeltaTable.vacuum

        def too_late(self: DeltaTable, *args: Any, **options: Any) -> Any:
            if not options["dry_run"]:
                rollback(uri, 0, commits(LabelsTable(uri)))
            return real(self, *args, **options)

        monkeypatch.setattr(DeltaTable, "vacuum", too_late)
        assert "vacuum" in refusal(vacuum, uri, 1)
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
        assert len(vacuum(uri, 2).files) == 2
