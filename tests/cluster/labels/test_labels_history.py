"""`mgc labels history` and `show`: the past of a labels table and of a track."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import click
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from cluster.labels.diff import track_rows
from cluster.labels.history import commits, find_version
from cluster.labels.readers.export import export
from cluster.labels.table import LabelsTable
from cluster.labels.vacuum import vacuum
from cluster.storage.uri import Uri
from mgc.errors import ErrorKind, StorageError
from pipelines.cli import find
from pipelines.command.job import run
from tests.support.nights import NOW, night, planned, refusal, stage
from tests.support.versions import AT_ONCE, Run, contents, nights, row, write


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
    def test_no_table_is_one_line(self, arguments: list[str], uri: Uri, mgc_labels: Run) -> None:
        word, *rest = arguments
        code, summary, _, said = mgc_labels(word, uri, *rest)
        assert code == 1
        assert said.startswith(f"mgc labels: {uri}: ")
        assert len(said.splitlines()) == 1
        assert summary["error"]


class TestHistory:
    def test_what_a_run_says_of_itself(self, uri: Uri, mgc_labels: Run) -> None:
        facts = {"counts": {"new": 2, "up_to_date": 7, "labeled": 2}, "status": "partial", "model_id": "model-x"}
        write(uri, row("a"), **{"mgc.run_id": "run-7", "mgc.run": json.dumps(facts)})
        [commit] = commits(LabelsTable(uri))
        assert (commit.version, commit.what, commit.run_id, commit.status) == (0, "label run", "run-7", "partial")
        assert (commit.counts, commit.model_id, commit.changes_rows) == (facts["counts"], "model-x", True)
        code, summary, printed, _ = mgc_labels("history", uri)
        assert code == 0
        assert summary["counts"] == {"version": 0, "entries": 1, "label_runs": 1}
        line = printed.splitlines()[-2]
        assert "label run run-7, stopped" in line
        assert "2 new, 2 labeled" in line
        assert "model-x" in line

    def test_a_count_that_had_another_name(self, uri: Uri, mgc_labels: Run) -> None:
        write(uri, row("a"), **{"mgc.run_id": "run-7", "mgc.run": json.dumps({"counts": {"stale": 3, "labeled": 3}})})
        assert commits(LabelsTable(uri))[0].counts == {"other_model": 3, "labeled": 3}
        assert "3 by another model, 3 labeled" in mgc_labels("history", uri)[2]

    def test_the_label_job_writes_what_is_read_here(self, uri: Uri) -> None:
        night(uri, {"a": "1", "b": "1"}, {"b": ErrorKind.EMPTY})
        counts = commits(LabelsTable(uri))[0].counts
        assert (counts["new"], counts["labeled"], counts["quarantined"]) == (2, 1, 1)

    @pytest.mark.parametrize("said", [None, "", "{", "[1]", '{"counts": [2]}'])
    def test_an_older_mgc_and_whatever_stands_there(self, said: str | None, uri: Uri, mgc_labels: Run) -> None:
        write(uri, row("a"), **{"mgc.run_id": "run-7"}, **({} if said is None else {"mgc.run": said}))
        assert "label run run-7 │ 1 row added" in mgc_labels("history", uri)[2]

    def test_other_programs_and_maintenance(self, uri: Uri, mgc_labels: Run) -> None:
        write(uri, row("a"))
        for genre in ("Jazz", "Folk"):
            write(uri, row("a", genre))
        delta = DeltaTable(uri.text)
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

    def test_a_limit(self, uri: Uri, mgc_labels: Run) -> None:
        nights(uri, 3)
        printed = mgc_labels("history", uri, "--limit", "2")[2]
        assert "the newest 2 versions" in printed
        assert "label run" in printed
        assert printed.count("label run") == 2

    def test_names_of_versions(self, uri: Uri) -> None:
        nights(uri, 3)
        vacuum(uri, 1, AT_ONCE)
        log = commits(LabelsTable(uri))
        assert log[0].version == 4
        found = {text: find_version(text, log, uri) for text in ("0", "latest", "latest-0", "latest-1", "latest-2")}
        assert found == {"0": 0, "latest": 4, "latest-0": 2, "latest-1": 1, "latest-2": 0}
        for text, line in {
            "5": f"{uri}: .* version 5; .* 4",
            "latest-3": f"{uri}: .* latest-3; .* 3 changes",
            "-1": "'-1' is not a version",
            "newest": "'newest' is not a version",
        }.items():
            assert re.match(line, refusal(find_version, text, log, uri))
        gone = refusal(find_version, "0", log[:3], uri).removeprefix(str(uri))
        assert re.findall(r"\d+", gone) == ["0", "2"]


class TestShow:
    def test_a_row_and_its_past(self, uri: Uri, mgc_labels: Run) -> None:
        others = [row(f"other {number}") for number in range(3)]
        write(uri, row("a", None, error_offset=77, next_try_at=NOW + timedelta(hours=6)), *others)
        write(uri, row("a", confidence=0.5, damage="cut short", seconds_listened=29.5, decoder="soundfile"), *others)
        write(uri, row("a", confidence=0.5, damage="cut short", seconds_listened=29.5, decoder="soundfile"))
        facts = {"mgc.run_id": "run-4", "mgc.run": "{}"}
        write(uri, row("a", "Folk", 0.5, run_id="run-4", override_by="ann", override_reason="[heard] it"), **facts)
        code, summary, printed, _ = mgc_labels("show", uri, "a")
        assert (code, summary["counts"]) == (0, {"version": 3, "changes": 3})
        now, past = printed.split("what earlier versions say")
        for each in ("labeled Folk, by ann", "by ann: [heard] it", "run-4", "version 3, ", "label run run-4"):
            assert each in now
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in past.splitlines() if line.startswith("│")]
        # Version 2 says the same as version 1, which made it so.
        assert [(each[0], each[2]) for each in rows] == [("1", "labeled Rock 0.50"), ("0", "quarantined (timeout)")]

        first = track_rows(uri, "a", commits(LabelsTable(uri))[-1:], 10)
        assert [(each.commit.version, each.exact) for each in first] == [(0, True)]
        assert mgc_labels("show", uri, "a", "--limit", "1")[1]["counts"]["changes"] == 1

    def test_a_quarantined_row_says_why(self, uri: Uri, mgc_labels: Run) -> None:
        write(uri, row("a", None, error_offset=77, tries=2, next_try_at=NOW + timedelta(hours=6)))
        printed = mgc_labels("show", uri, "a")[2]
        for each in ("timeout: took too long (byte 77)", "2026-03-01 08:30:00", "model-1", "features-1", "run-1"):
            assert each in printed

    def test_a_past_that_is_vacuumed_away(self, uri: Uri) -> None:
        nights(uri)
        vacuum(uri, 2, AT_ONCE)
        rows = track_rows(uri, "a", commits(LabelsTable(uri)), 10)
        assert [(each.commit.version, each.exact) for each in rows] == [(3, True), (2, False)]

    def test_a_track_that_was_pruned(self, uri: Uri, mgc_labels: Run) -> None:
        write(uri, row("a"), row("b"))
        write(uri, row("b"))
        printed = mgc_labels("show", uri, "a")[2]
        assert "no longer in the table" in printed
        assert "labeled Rock 0.75" in printed

    def test_an_unknown_track(self, uri: Uri, mgc_labels: Run) -> None:
        write(uri, *(row(f"album/song {number}.mp3") for number in range(9)), row("zzz"))
        code, _, _, said = mgc_labels("show", uri, "album/song 3.mp")
        assert code == 1
        assert len(said.splitlines()) == 1
        assert re.search("'album/song 3.mp'.*'album/song 3.mp3'", said)
        assert said.count(".mp3'") == 3
        assert "similar" not in mgc_labels("show", uri, "0123")[3]


@pytest.mark.cluster
def test_in_the_object_store(bucket_uri: str, mgc_labels: Run) -> None:
    uri, out = Uri.parse(bucket_uri) / "labels", Uri.parse(bucket_uri) / "out/labels.parquet"
    held_by = nights(uri, 3)
    table = LabelsTable(uri)
    plan = planned(table, {"a": "9", "b": "1"}, model="model-2")
    stage(table, plan)
    assert mgc_labels("rollback", uri, "latest-1")[1]["counts"] == {"from": 2, "to": 1, "version": 3}
    assert "version 3" in refusal(table.commit, plan, plan.key, NOW)
    code, summary, _, _ = mgc_labels("vacuum", uri, "--keep", "2", "--older-than", "0")
    assert (code, summary["counts"]["files"], summary["counts"]["oldest_version"]) == (0, 1, 2)
    assert summary["counts"]["bytes"] > 0
    assert "vacuum" in mgc_labels("rollback", uri, "0")[3]
    assert mgc_labels("diff", uri, "2", "latest")[1]["counts"]["same"] == 2
    assert mgc_labels("export", uri, "--out", out)[1]["counts"]["rows"] == 2
    found = pq.read_table(out.path, filesystem=out.filesystem).sort_by("track_id")
    assert found.drop_columns("model_confidence").to_pylist() == contents(uri) == held_by[1]
    assert "--overwrite" in mgc_labels("export", uri, "--out", out)[3]
    # Of version 1 everything is there, since version 3 is the same.
    assert mgc_labels("show", uri, "a")[1]["counts"]["changes"] == 3
    with pytest.raises(StorageError, match="bucket"):
        export(LabelsTable(uri), "parquet", Uri.parse("s3://no-such-bucket-here/x"))
