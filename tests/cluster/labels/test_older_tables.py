"""A table of an older mgc, which lacks columns: everything reads it, and its next commit adds them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc import schema
from mgc.errors import ErrorKind, LabelsError
from tests.support.nights import NOW, held, night, planned, reasons
from tests.support.versions import Run, row

ADDED = [field.name for field in schema.LABELS_ADDED]
TRACKS = {"a": "1", "b": "1", "c": "1"}
LACKING = [["bandwidth_hz"], [name for name in ADDED if name != "bandwidth_hz"], ADDED]
"""Columns that a table lacks: one from the last mgc that had none, from a middle one, from the first."""


def write_old(uri: Uri, lacking: list[str]) -> None:
    """Write a table of three tracks as an mgc did that knew nothing of some columns."""
    kept = pa.schema([field for field in schema.LABELS if field.name not in lacking])
    old = [row(track, content_tag="1", seconds_listened=30.0) for track in TRACKS]
    write_deltalake(uri.text, pa.Table.from_pylist([{**dict.fromkeys(kept.names), **each} for each in old], kept))


def names(uri: Uri) -> list[str]:
    return [field.name for field in DeltaTable(uri.text).schema().fields]


@pytest.mark.parametrize("lacking", LACKING)
def test_readers_see_null(uri: Uri, mgc_labels: Run, tmp_path: Path, lacking: list[str]) -> None:
    write_old(uri, lacking)
    rows = LabelsTable(uri).dataset().to_table()
    assert sorted(rows.schema.names) == sorted(schema.LABELS.names)
    assert all(rows[name].null_count == len(TRACKS) for name in lacking)
    assert planned(LabelsTable(uri), TRACKS, model="model-1", features="features-1").empty
    for arguments in (
        ["show", uri, "a"],
        ["history", uri],
        ["export", uri, "--format", "csv", "--out", tmp_path / "o"],
    ):
        assert mgc_labels(*arguments)[0] == 0, arguments
    assert names(uri) == [name for name in schema.LABELS.names if name not in lacking]


@pytest.mark.parametrize("lacking", LACKING)
def test_the_next_commit_adds_the_columns(uri: Uri, mgc_labels: Run, lacking: list[str]) -> None:
    """A track is new, one has other bytes, one has other bytes and fails, and one is as it was."""
    write_old(uri, lacking)
    changed = {"a": "2", "b": "2", "c": "1", "d": "1"}
    plan = night(uri, changed, {"b": ErrorKind.SILENT}, model="model-1", features="features-1")
    assert reasons(plan) == {"a": "changed", "b": "changed", "d": "new"}
    assert sorted(names(uri)) == sorted(schema.LABELS.names)
    rows = held(uri)
    assert {track: each["bandwidth_hz"] for track, each in rows.items()} == {
        "a": 16_000.0, "b": None, "c": None, "d": 16_000.0,
    }  # fmt: skip
    assert rows["b"]["status"] == "labeled"
    assert (rows["b"]["last_error_kind"], rows["b"]["stale_since"]) == ("silent", NOW)
    assert mgc_labels("diff", uri, "0", "latest")[0] == 0
    # A rollback brings the old schema back, and the night after it adds the columns again.
    assert mgc_labels("rollback", uri, "0")[0] == 0
    assert LabelsTable(uri).dataset().to_table()["bandwidth_hz"].null_count == len(TRACKS)
    night(uri, {**TRACKS, "e": "1"}, model="model-1", features="features-1")
    assert held(uri)["e"]["bandwidth_hz"] == 16_000.0


def test_a_stale_label_keeps_its_bandwidth(uri: Uri) -> None:
    night(uri, {"a": "1"})
    night(uri, {"a": "2"}, {"a": ErrorKind.SILENT})
    [kept] = held(uri).values()
    assert (kept["status"], kept["bandwidth_hz"], kept["last_error_kind"]) == ("labeled", 16_000.0, "silent")


def test_a_table_that_lacks_another_column_is_no_labels_table(uri: Uri) -> None:
    write_old(uri, ["decoder"])
    with pytest.raises(LabelsError, match="lacks decoder"):
        LabelsTable(uri)


def test_a_plan_that_an_older_mgc_froze(uri: Uri) -> None:
    """It called the tracks of another model stale."""
    night(uri, TRACKS)
    table = LabelsTable(uri)
    frozen = table.run(planned(table, TRACKS, model="model-2")).freeze()
    rows = files.read_table(frozen)
    former = pa.array(["stale"] * rows.num_rows)
    files.write_table(frozen, rows.set_column(rows.schema.get_field_index("reason"), "reason", former))
    plan = planned(LabelsTable(uri), TRACKS, model="model-2")
    assert (plan.counts.other_model, set(reasons(plan).values())) == (len(TRACKS), {"other_model"})
    assert LabelsTable(uri).run(plan).freeze() == frozen
    assert files.read_table(frozen)["reason"].to_pylist() == ["stale"] * len(TRACKS), "the same rows are there"
