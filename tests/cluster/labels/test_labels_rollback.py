"""`mgc labels rollback`: an earlier version of a labels table again."""

from __future__ import annotations

import re
from typing import Any

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from cluster.labels.history import commits, rollback
from cluster.labels.table import LabelsTable
from cluster.labels.vacuum import vacuum
from cluster.storage.uri import Uri
from tests.support.nights import NOW, held, night, planned, reasons, refusal, stage
from tests.support.versions import AT_ONCE, Run, contents, nights, row, write


class TestRollback:
    def test_the_table_is_that_version_again(self, uri: Uri, mgc_labels: Run) -> None:
        held_by = nights(uri)
        code, summary, _, said = mgc_labels("rollback", uri, "1")
        assert code == 0
        assert summary["counts"] == {"from": 3, "to": 1, "version": 4}
        assert re.search(r"\bversion 1\b.*\bversion 4\b", said)
        assert contents(uri) == held_by[1]
        # And back again.
        assert mgc_labels("rollback", uri, "latest-1")[1]["counts"]["version"] == 5
        assert contents(uri) == held_by[3]
        assert [commit.target for commit in commits(LabelsTable(uri))[:2]] == [3, 1]

    def test_a_run_planned_before_is_refused_and_the_next_goes_on(self, uri: Uri) -> None:
        nights(uri, 2)
        table = LabelsTable(uri)
        plan = planned(table, {"a": "9", "b": "1", "c": "1"}, model="model-1")
        stage(table, plan)
        assert rollback(uri, 0, commits(table)) == 2
        before = contents(uri)
        line = refusal(table.commit, plan, plan.key, NOW)
        assert "version 2" in line
        assert contents(uri) == before
        # It is of another key: what the refused one has staged does not count.
        table = LabelsTable(uri)
        again = planned(table, {"a": "9", "b": "1", "c": "1"}, model="model-1")
        assert again.key != plan.key
        # The rollback took out what model-1 says of b.
        assert (reasons(again), again.counts.held) == ({"a": "changed", "c": "new"}, 1)
        assert table.run(again).missing().equals(again.todo)
        stage(table, again)
        assert table.commit(again, again.key, NOW).version == 3
        assert {track: each["content_tag"] for track, each in held(uri).items()} == {"a": "9", "b": "1", "c": "1"}

    def test_a_run_that_has_looked_just_before(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        """The rollback comes after the run's last look and before its commit: the log decides."""
        held_by = nights(uri, 2)
        table = LabelsTable(uri)
        plan = planned(table, {"a": "9", "b": "1"}, model="model-1")
        stage(table, plan)
        enter = LabelsTable._enter

        def after_the_rollback(self: LabelsTable, *args: Any, **options: Any) -> None:
            rollback(uri, 0, commits(LabelsTable(uri)))
            enter(self, *args, **options)

        monkeypatch.setattr(LabelsTable, "_enter", after_the_rollback)
        assert "version 2" in refusal(table.commit, plan, plan.key, NOW)
        assert contents(uri) == held_by[0]

    @pytest.mark.parametrize("other", ["night", "append", "vacuum"])
    def test_another_commit_meanwhile(self, other: str, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        nights(uri)
        restore = DeltaTable.restore

        def too_late(self: DeltaTable, *args: Any, **options: Any) -> Any:
            if other == "vacuum":
                vacuum(uri, 3, AT_ONCE)
            else:
                night(uri, {"a": "3" if other == "append" else "9", "b": "1", "c": "1"}, model="model-3")
            return restore(self, *args, **options)

        monkeypatch.setattr(DeltaTable, "restore", too_late)
        line = refusal(rollback, uri, 1, commits(LabelsTable(uri)))
        assert line.startswith(f"{uri}: ")
        assert "rollback" in line
        assert not any(commit.what == "rollback" for commit in commits(LabelsTable(uri)))

    def test_the_history_that_was_shown_is_not_the_last(self, uri: Uri) -> None:
        nights(uri, 2)
        log = commits(LabelsTable(uri))
        night(uri, {"a": "9"})
        assert "another commit" in refusal(rollback, uri, 0, log)

    def test_an_answer_that_was_lost(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        held_by = nights(uri, 2)
        restore = DeltaTable.restore

        def deaf(self: DeltaTable, *args: Any, **options: Any) -> Any:
            restore(self, *args, **options)
            raise DeltaError("connection reset")

        monkeypatch.setattr(DeltaTable, "restore", deaf)
        assert rollback(uri, 0, commits(LabelsTable(uri))) == 2
        assert contents(uri) == held_by[0]

    @pytest.mark.parametrize("version", ["2", "latest", "latest-0"])
    def test_to_what_it_is_is_refused(self, version: str, uri: Uri, mgc_labels: Run) -> None:
        nights(uri, 3)
        code, _, _, said = mgc_labels("rollback", uri, version)
        assert code == 1
        assert re.fullmatch(rf"mgc labels: {re.escape(str(uri))}: .*\bversion 2\b.*\n", said)
        assert LabelsTable(uri).version == 2

    def test_to_what_is_vacuumed_away_is_refused(self, uri: Uri, mgc_labels: Run) -> None:
        held_by = nights(uri)
        vacuum(uri, 2, AT_ONCE)
        for dry in ([], ["--dry-run"]):
            code, _, _, said = mgc_labels("rollback", uri, "0", *dry)
            assert code == 1
            assert re.search(r"vacuum.*\bversion 0\b.*\b2\b", said)
        assert "(vacuumed)" in mgc_labels("history", uri)[2]
        assert contents(uri) == held_by[3]

    def test_nor_by_another_program(self, uri: Uri) -> None:
        held_by = nights(uri)
        DeltaTable(uri.text).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        version = LabelsTable(uri).version
        line = refusal(rollback, uri, 1, commits(LabelsTable(uri)))
        assert re.search(r"\bversion 1\b.*\b1 of its files\b.*vacuum", line)
        assert LabelsTable(uri).version == version
        assert contents(uri) == held_by[3]

    def test_a_dry_run_says_what_would_differ(self, uri: Uri, mgc_labels: Run) -> None:
        write(uri, row("a"))
        write(uri, row("a", "Jazz"))
        code, summary, printed, _ = mgc_labels("rollback", uri, "0", "--dry-run")
        assert code == 0
        assert summary["status"] == "dry_run"
        assert summary["counts"]["flipped"] == 1
        assert "version 1 against version 0" in printed
        assert LabelsTable(uri).version == 1
