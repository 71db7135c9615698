"""`mgc labels`: the past of a labels table, its differences, going back, deleting old files, snapshots."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from cluster import labels_export, queries, storage
from cluster.labels_diff import DIFFERENCES, KINDS, diff, track_rows
from cluster.labels_export import CSV, PARQUET, export, whole_file
from cluster.labels_history import commits, find_version, open_version, rollback, vacuum
from cluster.labels_table import LabelsTable
from cluster.tables import write_part
from mgc import schema
from mgc.errors import ErrorKind, LabelsError, ResourceError, StorageError
from pipelines.cli import find
from pipelines.job import run
from tests.nights import NOW, heard, held, night, planned, reasons, refusal, stage

Run = Callable[..., tuple[int, dict[str, Any], str, str]]


@pytest.fixture
def mgc_labels(capsys: pytest.CaptureFixture[str]) -> Run:
    """`mgc labels …` → exit code, summary, the rest of stdout, stderr."""

    def call(*arguments: str) -> tuple[int, dict[str, Any], str, str]:
        capsys.readouterr()
        code = run(find("labels"), list(arguments), "mgc labels")
        printed = capsys.readouterr()
        *rest, last = printed.out.splitlines()
        return code, json.loads(last), "\n".join(rest), printed.err

    return call


def row(track: str, genre: str | None = "Rock", confidence: float | None = 0.75, **others: Any) -> dict[str, Any]:
    """A row of the table."""
    plain = {
        "track_id": track, "uri": f"s3://music/{track}.mp3", "content_tag": "1", "tries": 1, "model_id": "model-1",
        "status": "labeled" if genre else "quarantined", "genre_top": genre,
        "confidence": confidence if genre else None,
        "top_k": [{"genre": genre, "probability": confidence}] if genre else None, "features_id": "features-1",
        "error_kind": None if genre else "timeout", "error_message": None if genre else "took too long",
        "run_id": "run-1", "labeled_at": NOW,
    }  # fmt: skip
    return plain | others


def write(uri: str, *rows: dict[str, Any], **facts: str) -> int:
    """A version that holds these rows, written by whatever program."""
    table = pa.Table.from_pylist([{**dict.fromkeys(schema.LABELS.names), **each} for each in rows], schema.LABELS)
    write_deltalake(
        uri,
        table,
        mode="overwrite",
        commit_properties=CommitProperties(custom_metadata=facts),
        storage_options=storage.delta_options(uri),
    )
    return LabelsTable(uri).version


def contents(uri: str, version: int | None = None) -> list[dict[str, Any]]:
    return LabelsTable(uri, version).dataset().to_table().sort_by("track_id").to_pylist()


def nights(uri: str, count: int = 4) -> list[list[dict[str, Any]]]:
    """So many versions, each of other rows; what they held."""
    for number in range(count):
        model = f"model-{number}"
        rows = [row("a", content_tag=str(number), model_id=model), row("b", model_id=model)]
        write(uri, *rows, **{"mgc.run_id": f"run-{number}"})
    return [contents(uri, version) for version in range(count)]


class TestCommandLine:
    @pytest.mark.parametrize("word", ["history", "diff", "rollback", "vacuum", "export", "show"])
    def test_every_word_explains_itself(self, word: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(find("labels"), [word, "--help"], "mgc labels") == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"Usage: mgc labels {word} ")
        assert "--limit" in printed

    def test_the_group_lists_its_words(self, capsys: pytest.CaptureFixture[str]) -> None:
        group = find("labels")
        assert isinstance(group, click.Group)
        assert run(group, ["--help"], "mgc labels") == 0
        printed = capsys.readouterr().out
        assert all(f"  {word} " in printed for word in group.commands)

    @pytest.mark.parametrize("arguments", [[], ["hist"], ["history"], ["vacuum", "x"], ["diff", "x", "--out", "x.txt"]])
    def test_a_wrong_command_line_is_one_line(self, arguments: list[str], mgc_labels: Run) -> None:
        code, summary, _, said = mgc_labels(*arguments)
        assert code == 2
        assert summary["status"] == "failed"
        assert len(said.splitlines()) == 1

    @pytest.mark.parametrize(
        "arguments",
        [["history"], ["diff"], ["show", "a"], ["rollback", "0"], ["vacuum", "--keep", "1"], ["export", "--out", "o"]],
    )
    def test_no_table_is_one_line(self, arguments: list[str], uri: str, mgc_labels: Run) -> None:
        word, *rest = arguments
        code, summary, _, said = mgc_labels(word, uri, *rest)
        assert code == 1
        assert (
            said == f"mgc labels: {uri}: there is no labels table here; `mgc label CATALOG --labels {uri}` makes one.\n"
        )
        assert summary["error"]


class TestHistory:
    def test_what_a_run_says_of_itself(self, uri: str, mgc_labels: Run) -> None:
        facts = {"counts": {"new": 2, "up_to_date": 7, "labeled": 2}, "status": "partial", "model_id": "model-x"}
        write(uri, row("a"), **{"mgc.run_id": "run-7", "mgc.run": json.dumps(facts)})
        [commit] = commits(LabelsTable(uri))
        assert (commit.version, commit.what, commit.run_id, commit.status) == (0, "label run", "run-7", "partial")
        assert (commit.counts, commit.model_id, commit.changes_rows) == (facts["counts"], "model-x", True)
        code, summary, printed, _ = mgc_labels("history", uri)
        assert code == 0
        assert summary["counts"] == {"version": 0, "entries": 1, "label_runs": 1}
        line = printed.splitlines()[-2]
        assert "label run run-7, stopped in time" in line
        assert "2 new, 2 labeled" in line
        assert "model-x" in line

    def test_the_label_job_writes_what_is_read_here(self, uri: str) -> None:
        night(uri, {"a": "1", "b": "1"}, {"b": ErrorKind.EMPTY})
        counts = commits(LabelsTable(uri))[0].counts
        assert (counts["new"], counts["labeled"], counts["quarantined"]) == (2, 1, 1)

    @pytest.mark.parametrize("said", [None, "", "{", "[1]", '{"counts": [2]}'])
    def test_an_older_mgc_and_whatever_stands_there(self, said: str | None, uri: str, mgc_labels: Run) -> None:
        write(uri, row("a"), **{"mgc.run_id": "run-7"}, **({} if said is None else {"mgc.run": said}))
        assert "label run run-7 │ 1 rows added" in mgc_labels("history", uri)[2]

    def test_other_programs_and_maintenance(self, uri: str, mgc_labels: Run) -> None:
        write(uri, row("a"))
        for genre in ("Jazz", "Folk"):
            write(uri, row("a", genre))
        delta = DeltaTable(uri)
        delta.delete("track_id = 'z'")
        delta.restore(0)
        delta.optimize.compact()
        delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        log = commits(LabelsTable(uri))
        said = [commit.what for commit in log]
        assert said[0] == said[1] == "vacuum"
        assert said[-3:] == ["write"] * 3
        assert [commit.target for commit in log if commit.what == "rollback"] == [0]
        assert not any(commit.changes_rows for commit in log if commit.what in ("vacuum", "optimize"))
        code, _, printed, _ = mgc_labels("history", uri)
        assert code == 0
        # The two commits of a vacuum are one line.
        assert f"{log[1].version}-{log[0].version} │" in printed
        assert printed.count("vacuum") == 1
        assert "rollback to version 0" in printed

    def test_a_limit(self, uri: str, mgc_labels: Run) -> None:
        nights(uri, 3)
        printed = mgc_labels("history", uri, "--limit", "2")[2]
        assert "2 newest versions" in printed
        assert "label run" in printed
        assert printed.count("label run") == 2

    def test_names_of_versions(self, uri: str) -> None:
        nights(uri, 3)
        vacuum(uri, 1)
        log = commits(LabelsTable(uri))
        assert log[0].version == 4
        found = {text: find_version(text, log, "T") for text in ("0", "latest", "latest-0", "latest-1", "latest-2")}
        assert found == {"0": 0, "latest": 4, "latest-0": 2, "latest-1": 1, "latest-2": 0}
        for text, line in {
            "5": "T: there is no version 5; the last one is 4.",
            "latest-3": "T: there is no latest-3; its log knows 3 changes of rows.",
            "-1": "'-1' is no version; give a number, latest, or latest-1 for the one before.",
            "newest": "'newest' is no version; give a number, latest, or latest-1 for the one before.",
        }.items():
            assert refusal(find_version, text, log, "T") == line
        assert "no version 0 any more; the log goes back to 2" in refusal(find_version, "0", log[:3], "T")


class TestDiff:
    def test_every_kind_of_difference(self, uri: str, mgc_labels: Run, tmp_path: Path) -> None:
        gone = NOW + timedelta(days=1)
        curator = {"override_by": "ann", "override_reason": "heard it"}
        write(
            uri, row("same"), row("flip"), row("weak", confidence=0.3), row("heals", None), row("breaks"), row("wrong"),
            row("kept", "Folk", **curator), row("lifted", "Folk", **curator), row("again", removed_at=NOW),
            row("removed"), row("pruned"), row("long gone", removed_at=NOW), row("silent", None),
        )  # fmt: skip
        write(
            uri, row("same", confidence=0.9), row("flip", "Jazz", 0.9), row("weak", "Jazz", 0.4), row("heals"),
            row("breaks", None), row("wrong", "Folk", **curator), row("kept", "Folk", model_id="model-2", **curator),
            row("lifted"), row("again"), row("removed", removed_at=gone), row("long gone", removed_at=NOW),
            row("fresh"), row("silent", None, error_kind="empty"), row("came and went", removed_at=gone),
        )  # fmt: skip
        kinds = {
            "flip": "flipped", "weak": "flipped", "lifted": "flipped", "heals": "newly_labeled", "wrong": "corrected",
            "breaks": "newly_quarantined", "fresh": "added", "again": "back", "removed": "gone", "pruned": "gone",
        }  # fmt: skip
        code, summary, printed, _ = mgc_labels("diff", uri, "--out", str(tmp_path / "d.parquet"))
        assert code == 0
        counts = {kind: list(kinds.values()).count(kind) for kind in KINDS}
        assert summary["counts"] == {"before": 0, "after": 1, **counts, "same": 3}
        assert "wrong │ Rock   │       0.75 │ Folk (ann: heard it)" in printed
        written = pq.read_table(tmp_path / "d.parquet")
        assert written.schema.equals(DIFFERENCES)
        by_track = {each["track_id"]: each for each in written.to_pylist()}
        assert {track: each["kind"] for track, each in by_track.items()} == kinds
        flip = by_track["flip"]
        assert (flip["genre_before"], flip["genre_after"]) == ("Rock", "Jazz")
        assert (flip["confidence_before"], flip["confidence_after"]) == (0.75, 0.9)
        assert by_track["breaks"]["error_kind_after"] == "timeout"
        assert by_track["wrong"]["override_by"] == "ann"

        found = diff(uri, 0, 1)
        assert [each["track_id"] for each in found.examples["flipped"]] == ["flip", "lifted", "weak"]
        assert found.flips[0][:3] == ("Rock", "Jazz", 2)
        assert found.flips[0][3:] == pytest.approx((0.525, 0.65))
        assert len(diff(uri, 0, 1, limit=1).examples["flipped"]) == 1
        # Backwards what came goes.
        back = diff(uri, 1, 0).counts
        assert (back["added"], back["gone"], back["back"], back["same"]) == (1, 2, 1, 3)
        assert not any(diff(uri, 1, 1).counts[kind] for kind in KINDS)

    def test_files_that_both_versions_have_are_not_compared(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        night(uri, {f"{number:03d}": "1" for number in range(100)})
        night(uri, {f"{number:03d}": "1" for number in range(103)})
        scanned: list[int] = []
        from cluster import labels_diff

        some = labels_diff._some_files
        monkeypatch.setattr(
            labels_diff, "_some_files", lambda *args: scanned.append(some(*args).count_rows()) or some(*args)
        )
        found = diff(uri, 0, 1)
        assert found.counts["added"] == 3
        assert found.counts["same"] == 100
        # Shared, before, after, and the last counted once more.
        assert scanned == [100, 0, 3, 3]

    def test_as_csv_and_not_over_a_file(self, uri: str, tmp_path: Path, mgc_labels: Run) -> None:
        write(uri, row("a"))
        write(uri, row("a", 'Jazz, "cool"'))
        out = str(tmp_path / "d.csv")
        assert mgc_labels("diff", uri, "0", "latest", "--out", out)[0] == 0
        assert pacsv.read_csv(out)["genre_after"].to_pylist() == ['Jazz, "cool"']
        code, _, _, said = mgc_labels("diff", uri, "--out", out)
        assert code == 1
        assert "there is something already; name another --out, or add --overwrite" in said
        assert mgc_labels("diff", uri, "--out", out, "--overwrite")[0] == 0

    def test_text_that_a_terminal_would_obey(self, uri: str, mgc_labels: Run) -> None:
        write(uri, row("\x1b[31ma[/b]"))
        write(uri, row("\x1b[31ma[/b]", "Jazz"))
        code, _, printed, _ = mgc_labels("diff", uri)
        assert code == 0
        assert "\x1b[31m" not in printed
        assert "[31ma[/b]" in printed

    def test_more_than_the_memory(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A query that does not fit is one line; one that fits on the disk goes there."""
        many = [row(f"{number:05d}" * 8) for number in range(3000)]
        write(uri, *many)
        write(uri, *(each | {"genre_top": "Jazz"} for each in many))
        monkeypatch.setattr(queries, "MEMORY_LIMIT", "1MB")
        line = refusal(diff, uri, 0, 1, error=ResourceError)
        assert line.startswith("the query needs more than 1MB of memory")


class TestRollback:
    def test_the_table_is_that_version_again(self, uri: str, mgc_labels: Run) -> None:
        held_by = nights(uri)
        code, summary, _, said = mgc_labels("rollback", uri, "1")
        assert code == 0
        assert summary["counts"] == {"from": 3, "to": 1, "version": 4}
        assert "as in version 1 again (version 4)" in said
        assert contents(uri) == held_by[1]
        # And back again.
        assert mgc_labels("rollback", uri, "latest-1")[1]["counts"]["version"] == 5
        assert contents(uri) == held_by[3]
        assert [commit.target for commit in commits(LabelsTable(uri))[:2]] == [3, 1]

    def test_a_run_planned_before_is_refused_and_the_next_goes_on(self, uri: str) -> None:
        nights(uri, 2)
        table = LabelsTable(uri)
        plan = planned(table, {"a": "9", "b": "1", "c": "1"}, model="model-1")
        stage(table, plan)
        assert rollback(uri, 0, commits(table)) == 2
        before = contents(uri)
        line = refusal(table.commit, plan, plan.key, NOW)
        assert "another run has committed version 2 since this one was planned" in line
        assert contents(uri) == before
        # It is of another key: what the refused one has staged does not count.
        table = LabelsTable(uri)
        again = planned(table, {"a": "9", "b": "1", "c": "1"}, model="model-1")
        assert again.key != plan.key
        assert reasons(again) == {"a": "changed", "b": "stale", "c": "new"}
        assert table.run(again).missing().equals(again.todo)
        stage(table, again)
        assert table.commit(again, again.key, NOW) == 3
        assert {track: each["content_tag"] for track, each in held(uri).items()} == {"a": "9", "b": "1", "c": "1"}

    def test_a_run_that_has_looked_just_before(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert "another run has committed version 2" in refusal(table.commit, plan, plan.key, NOW)
        assert contents(uri) == held_by[0]

    @pytest.mark.parametrize("other", ["night", "append", "vacuum"])
    def test_another_commit_meanwhile(self, other: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        nights(uri)
        restore = DeltaTable.restore

        def too_late(self: DeltaTable, *args: Any, **options: Any) -> Any:
            if other == "vacuum":
                vacuum(uri, 3)
            else:
                night(uri, {"a": "3" if other == "append" else "9", "b": "1", "c": "1"}, model="model-3")
            return restore(self, *args, **options)

        monkeypatch.setattr(DeltaTable, "restore", too_late)
        line = refusal(rollback, uri, 1, commits(LabelsTable(uri)))
        assert line.startswith(f"{uri}: the rollback failed, and the table's rows are as they were (")
        assert not any(commit.what == "rollback" for commit in commits(LabelsTable(uri)))

    def test_the_history_that_was_shown_is_not_the_last(self, uri: str) -> None:
        nights(uri, 2)
        log = commits(LabelsTable(uri))
        night(uri, {"a": "9"})
        assert "another commit came while this rollback was made ready" in refusal(rollback, uri, 0, log)

    def test_an_answer_that_was_lost(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        held_by = nights(uri, 2)
        restore = DeltaTable.restore

        def deaf(self: DeltaTable, *args: Any, **options: Any) -> Any:
            restore(self, *args, **options)
            raise DeltaError("connection reset")

        monkeypatch.setattr(DeltaTable, "restore", deaf)
        assert rollback(uri, 0, commits(LabelsTable(uri))) == 2
        assert contents(uri) == held_by[0]

    @pytest.mark.parametrize("version", ["2", "latest", "latest-0"])
    def test_to_what_it_is_is_refused(self, version: str, uri: str, mgc_labels: Run) -> None:
        nights(uri, 3)
        code, _, _, said = mgc_labels("rollback", uri, version)
        assert code == 1
        assert said == f"mgc labels: {uri}: the table holds version 2 already; there is nothing to roll back.\n"
        assert LabelsTable(uri).version == 2

    def test_to_what_is_vacuumed_away_is_refused(self, uri: str, mgc_labels: Run) -> None:
        held_by = nights(uri)
        vacuum(uri, 2)
        for dry in ([], ["--dry-run"]):
            code, _, _, said = mgc_labels("rollback", uri, "0", *dry)
            assert code == 1
            assert "version 0 was given up by a vacuum; a rollback reaches back to 2." in said
        assert "(vacuumed)" in mgc_labels("history", uri)[2]
        assert contents(uri) == held_by[3]

    def test_nor_by_another_program(self, uri: str) -> None:
        held_by = nights(uri)
        DeltaTable(uri).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        version = LabelsTable(uri).version
        line = refusal(rollback, uri, 1, commits(LabelsTable(uri)))
        assert "version 1 cannot be read any more: 1 of its files were vacuumed away" in line
        assert LabelsTable(uri).version == version
        assert contents(uri) == held_by[3]

    def test_a_dry_run_says_what_would_differ(self, uri: str, mgc_labels: Run) -> None:
        write(uri, row("a"))
        write(uri, row("a", "Jazz"))
        code, summary, printed, _ = mgc_labels("rollback", uri, "0", "--dry-run")
        assert code == 0
        assert summary["status"] == "dry_run"
        assert summary["counts"]["flipped"] == 1
        assert "version 1 against version 0" in printed
        assert LabelsTable(uri).version == 1


class TestVacuum:
    def test_the_last_versions_stay(self, uri: str, mgc_labels: Run) -> None:
        held_by = nights(uri, 5)
        before = set(storage.list_uris(uri))
        code, summary, printed, _ = mgc_labels("vacuum", uri, "--keep", "2", "--dry-run", "--limit", "2")
        assert (code, summary["status"]) == (0, "dry_run")
        assert len(printed.splitlines()) == 3
        assert "and 1 more" in printed
        assert set(storage.list_uris(uri)) == before
        code, done, _, _ = mgc_labels("vacuum", uri, "--keep", "2")
        assert (code, done["status"], done["counts"]) == (0, "done", summary["counts"])
        gone = before - set(storage.list_uris(uri))
        assert len(gone) == done["counts"]["files"] == 3
        assert done["counts"]["oldest_version"] == 3
        assert [contents(uri, version) for version in (3, 4)] == held_by[3:]
        assert diff(uri, 3, 4).counts["same"] == 2
        for version in range(3):
            assert "vacuumed away" in refusal(open_version, uri, version)
        # Its own commits are no versions to keep, and a second one finds nothing to do.
        again = vacuum(uri, 2)
        assert (again.files, again.size_bytes, again.oldest) == ([], 0, 3)
        version = LabelsTable(uri).version
        assert rollback(uri, 3, commits(LabelsTable(uri))) == version + 1
        assert contents(uri) == held_by[3]

    def test_what_a_rollback_brought_back_stays(self, uri: str) -> None:
        held_by = nights(uri)
        rollback(uri, 0, commits(LabelsTable(uri)))
        assert len(vacuum(uri, 1).files) == 3
        assert contents(uri) == held_by[0]
        night(uri, {"a": "9", "b": "1"}, model="model-0")
        assert contents(uri, 0) == held_by[0]

    def test_a_larger_number_later_promises_nothing(self, uri: str) -> None:
        nights(uri)
        assert vacuum(uri, 1).oldest == 3
        assert vacuum(uri, 4).oldest == 3

    @pytest.mark.parametrize("appending", [False, True], ids=["merging", "appending"])
    def test_a_run_that_commits_at_this_moment_loses_nothing(
        self, appending: bool, uri: str, monkeypatch: pytest.MonkeyPatch
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
        [written] = [each for each in storage.list_uris(uri) if "/_" not in each and "/part-00000-" not in each]
        enter = LabelsTable._enter

        def after_the_vacuum(self: LabelsTable, *args: Any, **options: Any) -> None:
            assert len(vacuum(uri, 1).files) == 3
            enter(self, *args, **options)

        monkeypatch.setattr(LabelsTable, "_enter", after_the_vacuum)
        table.commit(plan, plan.key, NOW)
        assert {track: each["content_tag"] for track, each in held(uri).items()} == tracks
        assert storage.exists(written)

    def test_what_killed_writers_left_goes_when_it_is_old(self, uri: str) -> None:
        nights(uri, 2)
        old, young = Path(uri, "part-old.parquet"), Path(uri, "part-young.parquet")
        for path in (old, young):
            path.write_bytes(b"half")
        os.utime(old, (NOW.timestamp(), NOW.timestamp()))
        aside = Path(uri, "_reports", "latest.html")
        aside.parent.mkdir()
        aside.write_text("x")
        os.utime(aside, (NOW.timestamp(), NOW.timestamp()))
        assert vacuum(uri, 2).files == ["part-old.parquet"]
        assert young.exists()
        assert aside.exists()

    def test_a_commit_that_comes_first(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        nights(uri)
        before = set(storage.list_uris(uri))
        real = DeltaTable.vacuum

        def too_late(self: DeltaTable, *args: Any, **options: Any) -> Any:
            if not options["dry_run"]:
                rollback(uri, 0, commits(LabelsTable(uri)))
            return real(self, *args, **options)

        monkeypatch.setattr(DeltaTable, "vacuum", too_late)
        assert "the vacuum failed, and the table's rows are as they were" in refusal(vacuum, uri, 1)
        assert before <= set(storage.list_uris(uri))

    def test_a_commit_that_comes_while_it_deletes(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


class TestExport:
    def table(self, uri: str) -> LabelsTable:
        write(uri, row("a", "Rock, hard"), row("b", None), row("c", removed_at=NOW), row("d", genres=["Jazz", "Soul"]))
        return LabelsTable(uri)

    def test_parquet(self, uri: str, tmp_path: Path, mgc_labels: Run) -> None:
        table = self.table(uri)
        out = tmp_path / "new" / "labels.parquet"
        code, summary, _, said = mgc_labels("export", uri, "--out", str(out))
        assert (code, summary["counts"]) == (0, {"version": 0, "rows": 3})
        assert f"3 tracks of version 0 -> {out}" in said
        found = pq.read_table(out)
        assert found.schema.equals(schema.LABELS)
        assert found.schema.metadata == schema.LABELS.metadata
        kept = table.dataset().to_table(filter=pc.field("removed_at").is_null())
        assert found.sort_by("track_id").equals(kept.sort_by("track_id"))
        assert [path.name for path in out.parent.iterdir()] == ["labels.parquet"]

    def test_csv(self, uri: str, tmp_path: Path) -> None:
        out = tmp_path / "labels.csv"
        assert export(self.table(uri), CSV, str(out)) == 3
        strings = pacsv.ConvertOptions(
            column_types={"top_k": pa.string(), "genres": pa.string()}, strings_can_be_null=True
        )
        rows = {each["track_id"]: each for each in pacsv.read_csv(out, convert_options=strings).to_pylist()}
        assert sorted(rows) == ["a", "b", "d"]
        assert json.loads(rows["a"]["top_k"]) == [{"genre": "Rock, hard", "probability": 0.75}]
        assert json.loads(rows["d"]["genres"]) == ["Jazz", "Soul"]
        assert rows["b"]["genre_top"] is None
        assert rows["a"]["labeled_at"] == NOW

    def test_an_earlier_version_and_a_limit(self, uri: str, tmp_path: Path, mgc_labels: Run) -> None:
        nights(uri, 2)
        out = str(tmp_path / "o.parquet")
        mgc_labels("export", uri, "--out", out, "--version", "latest-1")
        assert set(pq.read_table(out)["model_id"].to_pylist()) == {"model-0"}
        assert mgc_labels("export", uri, "--out", out, "--limit", "1", "--overwrite")[1]["counts"]["rows"] == 1

    def test_what_is_there_stays(self, uri: str, tmp_path: Path) -> None:
        table = self.table(uri)
        out = tmp_path / "o.parquet"
        out.write_bytes(b"mine")
        assert "there is something already" in refusal(export, table, PARQUET, str(out))
        assert out.read_bytes() == b"mine"
        assert export(table, PARQUET, str(out), overwrite=True) == 3
        assert "is a folder; --out names the file" in refusal(export, table, PARQUET, str(tmp_path))
        for inside in (uri, f"{uri}/x.parquet", f"{uri}/../labels/x.parquet"):
            assert "lies in the labels table's folder" in refusal(export, table, PARQUET, inside)

    def test_what_fails_half_way_leaves_nothing(
        self, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        many = [row(f"{number:04d}") for number in range(5000)]
        write(uri, *many)
        out = tmp_path / "out" / "o.parquet"
        monkeypatch.setattr(labels_export, "ROWS_AT_ONCE", 2048)
        written: list[int] = []
        real = pq.ParquetWriter.write_batch

        def full(self: pq.ParquetWriter, batch: pa.RecordBatch) -> None:
            if written:
                raise OSError(28, "No space left on device")
            written.append(batch.num_rows)
            real(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(pq.ParquetWriter, "write_batch", full)
            line = refusal(export, LabelsTable(uri), PARQUET, str(out), error=StorageError)
        assert line == f"cannot write {out}: the disk is full; free some space or choose another place."
        assert written
        assert list(out.parent.iterdir()) == []
        # A damaged table is not the fault of the file.
        for path in Path(uri).glob("*.parquet"):
            path.write_bytes(path.read_bytes()[:2000] + b"PAR1")
        line = refusal(export, LabelsTable(uri), PARQUET, str(out))
        assert line.startswith(f"{uri}: cannot be read as Parquet (")
        assert list(out.parent.iterdir()) == []

    def test_a_place_that_cannot_be_written(self, uri: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        line = refusal(export, self.table(uri), PARQUET, str(tmp_path / "file" / "o.parquet"), error=StorageError)
        assert line.startswith(f"cannot write {tmp_path}/file/o.parquet: ")


class TestShow:
    def test_a_row_and_its_past(self, uri: str, mgc_labels: Run) -> None:
        others = [row(f"other {number}") for number in range(3)]
        write(uri, row("a", None, error_offset=77, next_try_at=NOW + timedelta(hours=6)), *others)
        write(uri, row("a", confidence=0.5, damage="cut short", seconds_listened=29.5, decoder="soundfile"), *others)
        write(uri, row("a", confidence=0.5, damage="cut short", seconds_listened=29.5, decoder="soundfile"))
        facts = {"mgc.run_id": "run-4", "mgc.run": "{}"}
        write(uri, row("a", "Folk", 0.5, run_id="run-4", override_by="ann", override_reason="[heard] it"), **facts)
        code, summary, printed, _ = mgc_labels("show", uri, "a")
        assert (code, summary["counts"]) == (0, {"version": 3, "changes": 3})
        now, past = printed.split("what earlier versions said")
        for each in ("labeled Folk, by ann", "by ann: [heard] it", "run-4", "version 3, ", "label run run-4"):
            assert each in now
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in past.splitlines() if line.startswith("│")]
        # Version 2 says the same as version 1, which made it so.
        assert [(each[0], each[2]) for each in rows] == [("1", "labeled Rock 0.50"), ("0", "quarantined (timeout)")]

        first = track_rows(uri, "a", commits(LabelsTable(uri))[-1:], 10)
        assert [(each.commit.version, each.exact) for each in first] == [(0, True)]
        assert mgc_labels("show", uri, "a", "--limit", "1")[1]["counts"]["changes"] == 1

    def test_a_quarantined_row_says_why(self, uri: str, mgc_labels: Run) -> None:
        write(uri, row("a", None, error_offset=77, tries=2, next_try_at=NOW + timedelta(hours=6)))
        printed = mgc_labels("show", uri, "a")[2]
        for each in ("timeout: took too long (byte 77)", "2026-03-01 08:30:00", "model-1", "features-1", "run-1"):
            assert each in printed

    def test_a_past_that_is_vacuumed_away(self, uri: str) -> None:
        nights(uri)
        vacuum(uri, 2)
        rows = track_rows(uri, "a", commits(LabelsTable(uri)), 10)
        assert [(each.commit.version, each.exact) for each in rows] == [(3, True), (2, False)]

    def test_a_track_that_was_pruned(self, uri: str, mgc_labels: Run) -> None:
        write(uri, row("a"), row("b"))
        write(uri, row("b"))
        printed = mgc_labels("show", uri, "a")[2]
        assert "not in the table any more" in printed
        assert "labeled Rock 0.75" in printed

    def test_an_unknown_track(self, uri: str, mgc_labels: Run) -> None:
        write(uri, *(row(f"album/song {number}.mp3") for number in range(9)), row("zzz"))
        code, _, _, said = mgc_labels("show", uri, "album/song 3.mp")
        assert code == 1
        assert len(said.splitlines()) == 1
        assert "no version knows the track 'album/song 3.mp'; similar ids: 'album/song 3.mp3', " in said
        assert said.count(".mp3'") == 3
        assert "similar" not in mgc_labels("show", uri, "0123")[3]


@pytest.mark.cluster
def test_in_the_object_store(bucket_uri: str, mgc_labels: Run) -> None:
    uri, out = bucket_uri + "/labels", bucket_uri + "/out/labels.parquet"
    held_by = nights(uri, 3)
    table = LabelsTable(uri)
    plan = planned(table, {"a": "9", "b": "1"}, model="model-2")
    stage(table, plan)
    assert mgc_labels("rollback", uri, "latest-1")[1]["counts"] == {"from": 2, "to": 1, "version": 3}
    assert "another run has committed version 3" in refusal(table.commit, plan, plan.key, NOW)
    code, summary, _, _ = mgc_labels("vacuum", uri, "--keep", "2")
    assert (code, summary["counts"]["files"], summary["counts"]["oldest_version"]) == (0, 1, 2)
    assert summary["counts"]["bytes"] > 0
    assert "was given up by a vacuum" in mgc_labels("rollback", uri, "0")[3]
    assert mgc_labels("diff", uri, "2", "latest")[1]["counts"]["same"] == 2
    assert mgc_labels("export", uri, "--out", out)[1]["counts"]["rows"] == 2
    location = storage.locate(out)
    found = pq.read_table(location.path, filesystem=location.filesystem).sort_by("track_id")
    assert found.to_pylist() == contents(uri) == held_by[1]
    assert "there is something already" in mgc_labels("export", uri, "--out", out)[3]
    # Of version 1 everything is there, since version 3 is the same.
    assert mgc_labels("show", uri, "a")[1]["counts"]["changes"] == 3
    half = bucket_uri + "/out/half.csv"
    with pytest.raises(LabelsError):
        write_half(half)
    assert not storage.exists(half)
    with pytest.raises(StorageError, match="the bucket does not exist"):
        export(LabelsTable(uri), PARQUET, "s3://no-such-bucket-here/x")


def write_half(uri: str) -> None:
    with whole_file(uri) as path:
        path.write_bytes(b"half")
        raise LabelsError("out of luck")
