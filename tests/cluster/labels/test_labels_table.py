"""The labels table: one run one commit, each track once, whatever happens between."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from cluster.labels.counts import CommittedRun, PlanCounts, RunCounts
from cluster.labels.log import APPLICATION
from cluster.labels.plan import PLAN, PlanRequest
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc import schema
from mgc.errors import ErrorKind, MgcError, StorageError
from tests.support.nights import (
    FEATURES,
    MODEL,
    NOW,
    catalog,
    held,
    night,
    planned,
    reasons,
    refusal,
    stage,
)
from tests.support.object_store import ObjectStore


class TestNights:
    def test_the_first_commit_creates_the_table_with_its_rows(self, uri: Uri) -> None:
        table = LabelsTable(uri)
        assert not table.exists
        assert table.version == -1
        plan = planned(table, {"a": "1", "b": "1", "c": "1"})
        assert plan.counts == PlanCounts(new=3)
        assert plan.todo.schema.equals(PLAN)
        table.run(plan).freeze()
        stage(table, plan, {"b": ErrorKind.NOT_AUDIO})
        assert not LabelsTable(uri).exists
        done = table.commit(plan, "night-1", NOW)
        assert done == CommittedRun(0, RunCounts(new=3, labeled=2, quarantined=1))
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
        delta = DeltaTable(uri.text, storage_options=uri.storage_options)
        assert delta.transaction_version(APPLICATION) == 0
        assert delta.history()[0]["mgc.run_id"] == "night-1"

    def test_nothing_to_do_is_no_commit(self, uri: Uri) -> None:
        night(uri, {"a": "1"})
        table = LabelsTable(uri)
        plan = planned(table, {"a": "1"})
        assert plan.empty
        assert plan.counts.up_to_date == 1
        assert table.commit(plan, plan.key, NOW).version == 0
        assert LabelsTable(uri).version == 0

    def test_new_changed_removed_and_back(self, anywhere: Uri) -> None:
        uri = anywhere
        night(uri, {"a": "1", "b": "1", "c": "1"})
        later = NOW + timedelta(days=1)
        # In another zone, to be kept as UTC.
        plan = night(uri, {"a": "1", "b": "2", "d": "1"}, at=later.astimezone(timezone(timedelta(hours=5))))
        assert reasons(plan) == {"b": "changed", "d": "new"}
        assert plan.removed.to_pydict() == {"track_id": ["c"]}
        assert plan.counts.removed == 1
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

    def test_a_removed_track_is_removed_once(self, uri: Uri) -> None:
        night(uri, {"a": "1", "b": "1"})
        plan = night(uri, {"a": "1"})
        assert not plan.todo.num_rows
        assert LabelsTable(uri).version == 1
        assert planned(LabelsTable(uri), {"a": "1"}).empty
        # Not run by another model either.
        assert reasons(planned(LabelsTable(uri), {"a": "1"}, model="model-2")) == {"a": "other_model"}

    def test_only_new_tracks_are_appended(self, uri: Uri) -> None:
        night(uri, {"a": "1"})
        night(uri, {"a": "1", "b": "1"})
        delta = DeltaTable(uri.text, storage_options=uri.storage_options)
        assert [entry["operation"] for entry in delta.history()] == ["WRITE", "WRITE"]
        assert delta.history()[0]["operationMetrics"]["num_added_rows"] == 1
        assert sorted(held(uri)) == ["a", "b"]


class TestWhatIsPlanned:
    def test_another_model_or_front_end(self, tmp_path: Path) -> None:
        uri = Uri.of_path(tmp_path)
        night(uri, {"a": "1", "b": "1"}, {"b": ErrorKind.CORRUPT_STREAM})
        table = LabelsTable(uri)
        assert planned(table, {"a": "1", "b": "1"}).empty
        for other in ({"model": "model-2"}, {"features": "features-2"}):
            plan = planned(table, {"a": "1", "b": "1"}, **other)
            assert reasons(plan) == {"a": "other_model", "b": "other_model"}
            assert plan.todo["tries"].to_pylist() == [0, 0]

    def test_moved_files_are_read_where_they_are_now(self, tmp_path: Path) -> None:
        night(Uri.of_path(tmp_path), {"a": "1"})
        plan = LabelsTable(Uri.of_path(tmp_path)).plan(
            catalog({"a": "1"}, "s3://elsewhere"), PlanRequest(MODEL, FEATURES)
        )
        assert reasons(plan) == {"a": "changed"}

    def test_a_failed_fetch_is_tried_again(self, tmp_path: Path) -> None:
        uri, tracks = Uri.of_path(tmp_path), {"a": "1", "b": "1"}
        outcomes = {"a": ErrorKind.FETCH_FAILED, "b": ErrorKind.TRUNCATED}
        night(uri, tracks, outcomes)
        for tries in (1, 2):
            assert held(uri)["a"]["tries"] == tries
            plan = night(uri, tracks, outcomes)
            assert plan.counts.retry == 1
            assert plan.todo.to_pydict()["tries"] == [tries]
        assert held(uri)["a"]["tries"] == 3
        # New bytes, or a new model, start from none.
        assert planned(LabelsTable(uri), tracks | {"a": "2"}).todo.to_pydict()["tries"] == [0]
        night(uri, tracks, outcomes, model="model-2")
        assert held(uri)["a"]["tries"] == 1
        assert reasons(night(uri, tracks, model="model-2")) == {"a": "retry"}
        assert held(uri)["a"]["status"] == "labeled"
        assert planned(LabelsTable(uri), tracks, "model-2").empty

    def test_labelling_again_is_not_a_failed_try(self, tmp_path: Path) -> None:
        uri = Uri.of_path(tmp_path)
        for number in range(3):
            night(uri, {"a": "1"}, model=f"model-{number}")
        night(uri, {"a": "1"}, {"a": ErrorKind.FETCH_FAILED}, model="model-x")
        retried = planned(LabelsTable(uri), {"a": "1"}, "model-x")
        assert (reasons(retried), retried.todo["tries"].to_pylist()) == ({"a": "retry"}, [1])

    def test_a_limit(self, tmp_path: Path) -> None:
        uri, tracks = Uri.of_path(tmp_path), {"a": "1", "b": "1", "c": "1"}
        plan = night(uri, tracks, limit=2)
        assert reasons(plan) == {"a": "new", "b": "new"}
        assert plan.counts.pending == 1
        assert sorted(held(uri)) == ["a", "b"]
        plan = planned(LabelsTable(uri), {"b": "1", "c": "1"}, limit=1)
        assert plan.empty
        assert plan.counts == PlanCounts(up_to_date=1, pending=1)
        assert reasons(planned(LabelsTable(uri), tracks, limit=10)) == {"c": "new"}

    def test_the_key_says_what_the_run_depends_on(self, tmp_path: Path) -> None:
        table = LabelsTable(Uri.of_path(tmp_path / "t"))
        tracks = {"a": "1", "b": "2"}
        key = planned(table, tracks).key
        assert planned(LabelsTable(Uri.of_path(tmp_path / "t")), tracks).key == key
        others = [
            planned(table, tracks | {"c": "1"}),
            planned(table, {"a": "1"}),
            planned(table, {"a": "2", "b": "1"}),
            table.plan(catalog(tracks, "s3://elsewhere"), PlanRequest(MODEL, FEATURES)),
            planned(table, tracks, model="model-2"),
            planned(table, tracks, features="features-2"),
            planned(table, tracks, clips=3),
        ]
        night(Uri.of_path(tmp_path / "t"), {"z": "1"})
        others.append(planned(LabelsTable(Uri.of_path(tmp_path / "t")), tracks))
        assert len({key, *(plan.key for plan in others)}) == 1 + len(others)

    def test_the_key_is_the_same_in_another_process(self, tmp_path: Path) -> None:
        tracks = {f"track {number}": str(number) for number in range(300)}
        key = planned(LabelsTable(Uri.of_path(tmp_path)), tracks, a=1, b=[2]).key
        pq.write_table(catalog(tracks).take(np.random.default_rng(0).permutation(300)), tmp_path / "c.parquet")
        script = (
            "import sys, pyarrow.parquet as pq; from cluster.labels.table import LabelsTable\n"
            "from cluster.storage.uri import Uri\n"
            "from cluster.labels.plan import PlanRequest\n"
            "t = pq.read_table(sys.argv[1] + '/c.parquet', partitioning=None)\n"
            f"asked = PlanRequest({MODEL!r}, {FEATURES!r}, options={{'b': [2], 'a': 1}})\n"
            "print(LabelsTable(Uri.parse(sys.argv[1])).plan(t, asked).key)"
        )
        command = [sys.executable, "-c", script, str(tmp_path)]
        environment = {**os.environ, "PYTHONHASHSEED": "7"}
        root = Path(files.__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root, env=environment)
        assert done.stdout.strip() == key, done.stderr

    def test_a_table_with_a_track_twice_is_refused(self, tmp_path: Path) -> None:
        uri = Uri.of_path(tmp_path)
        night(uri, {"a": "1"})
        write_deltalake(uri.text, LabelsTable(uri).dataset().to_table(), mode="append")
        line = refusal(planned, LabelsTable(uri), {"a": "1"})
        assert f"{uri}: " in line
        assert "more than once" in line


def test_a_table_that_is_opened_again_is_the_same(anywhere: Uri) -> None:
    """A run that hears for hours commits with the credentials of its end, to the version that it planned against."""
    night(anywhere, {"a": "1"})
    table = LabelsTable(anywhere)
    opened, rows, base = table.delta, table.dataset().count_rows(), table.base
    night(anywhere, {"a": "1", "b": "1"})
    table.renew()
    assert table.delta is not opened
    assert (table.version, table.base, table.dataset().count_rows()) == (0, base, rows) == (0, base, 1)
    assert "another run has committed" in refusal(table.refuse_overtaken, planned(table, {"c": "1"}))
    nothing = LabelsTable(anywhere / "none")
    nothing.renew()
    assert not nothing.exists


class TestWhatIsNoLabelsTable:
    @pytest.mark.parametrize(
        "uri",
        [
            *("/x/a%41", "/x/[live]", "/x/a|b", "/x/a\\b", "/x/a\nb", "/x/a#b"),
            *("s3://b/c#x", "s3://b/c?x", "s3://b/c%20d"),
            # Where these would lie depends on who reads them.
            *("s3://b/x/../c", "s3://b/./c", "s3://b/..", "s3://b/x//c", "s3://b//c"),
        ],
    )
    def test_names_that_deltalake_misreads(self, uri: str, s3_environment: ObjectStore) -> None:
        assert "Delta table" in refusal(LabelsTable, Uri.parse(uri))

    def test_nothing_there(self, anywhere: Uri) -> None:
        line = refusal(LabelsTable(anywhere).dataset)
        assert line.startswith(f"{anywhere}: ")
        assert "`mgc label" in line

    @pytest.mark.cluster
    def test_missing_bucket(self, s3_environment: ObjectStore) -> None:
        line = refusal(LabelsTable, Uri.parse("s3://no-such-bucket-here/labels"), error=StorageError)
        assert re.search("s3://no-such-bucket-here/labels: .*bucket", line)

    @pytest.mark.cluster
    def test_wrong_credentials(
        self, bucket_uri: str, s3_environment: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table = LabelsTable(Uri.parse(bucket_uri) / "labels")
        plan = planned(table, {"a": "1"})
        stage(table, plan)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-wrong-secret")
        for action, args in ((LabelsTable, (table.uri,)), (table.commit, (plan, plan.key, NOW))):
            line = refusal(action, *args, error=StorageError)
            assert "credentials" in line
            assert s3_environment.secret_key not in line
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_environment.secret_key)
        assert not LabelsTable(table.uri).exists

    def test_a_file(self, anywhere: Uri) -> None:
        files.write_bytes(anywhere, b"x")
        assert re.match(rf"{re.escape(str(anywhere))}\b.* file\b", refusal(LabelsTable, anywhere))

    def test_another_delta_table(self, tmp_path: Path) -> None:
        write_deltalake(str(tmp_path), pa.table({"title": ["x"]}))
        line = refusal(LabelsTable, Uri.of_path(tmp_path))
        assert "track_id, uri" in line

    def test_a_newer_format(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        night(Uri.of_path(tmp_path), {"a": "1"})
        night(Uri.of_path(tmp_path), {"a": "2", "b": "1"})
        monkeypatch.setattr(schema, "FORMAT_VERSION", 0)
        line = refusal(LabelsTable, Uri.of_path(tmp_path))
        assert re.match(rf"{re.escape(str(tmp_path))}: .*\b1\b.*\b0\b", line)

    def test_a_damaged_log(self, tmp_path: Path) -> None:
        night(Uri.of_path(tmp_path), {"a": "1"})
        (tmp_path / "_delta_log" / f"{0:020d}.json").write_text("{")
        line = refusal(LabelsTable, Uri.of_path(tmp_path))
        assert line.startswith(f"{tmp_path}: ")

    def test_a_data_file_that_is_gone(self, tmp_path: Path) -> None:
        night(Uri.of_path(tmp_path), {"a": "1"})
        for path in tmp_path.glob("*.parquet"):
            path.unlink()
        line = refusal(planned, LabelsTable(Uri.of_path(tmp_path)), {"a": "1"}, error=MgcError)
        assert str(tmp_path) in line
