"""`mgc labels export`: snapshots of a labels table for other programs."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from cluster.labels.overrides import read_overrides
from cluster.labels.readers.export import export
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc import schema
from mgc.errors import StorageError
from tests.support.nights import NOW, refusal
from tests.support.versions import Run, nights, row, write


class TestExport:
    def table(self, uri: Uri) -> LabelsTable:
        write(uri, row("a", "Rock, hard"), row("b", None), row("c", removed_at=NOW), row("d", genres=["Jazz", "Soul"]))
        return LabelsTable(uri)

    def test_parquet(self, uri: Uri, tmp_path: Path, mgc_labels: Run) -> None:
        table = self.table(uri)
        out = tmp_path / "new" / "labels.parquet"
        code, summary, _, said = mgc_labels("export", uri, "--out", str(out))
        assert (code, summary["counts"]) == (0, {"version": 0, "rows": 3})
        assert re.search(rf"\b3 tracks\b.*\bversion 0\b.*{re.escape(str(out))}", said)
        found = pq.read_table(out)
        assert found.schema.equals(schema.LABELS)
        assert found.schema.metadata == schema.LABELS.metadata
        kept = table.dataset().to_table(filter=pc.field("removed_at").is_null())
        assert found.sort_by("track_id").equals(kept.sort_by("track_id"))
        assert [path.name for path in out.parent.iterdir()] == ["labels.parquet"]

    def test_csv(self, uri: Uri, tmp_path: Path) -> None:
        out = tmp_path / "labels.csv"
        assert export(self.table(uri), "csv", Uri.of_path(out)) == 3
        strings = pacsv.ConvertOptions(
            column_types={"top_k": pa.string(), "genres": pa.string()}, strings_can_be_null=True
        )
        rows = {each["track_id"]: each for each in pacsv.read_csv(out, convert_options=strings).to_pylist()}
        assert sorted(rows) == ["a", "b", "d"]
        assert json.loads(rows["a"]["top_k"]) == [{"genre": "Rock, hard", "probability": 0.75}]
        assert json.loads(rows["d"]["genres"]) == ["Jazz", "Soul"]
        assert rows["b"]["genre_top"] is None
        assert rows["a"]["labeled_at"] == NOW

    def test_a_csv_has_no_formulas(self, uri: Uri, tmp_path: Path, mgc_labels: Run) -> None:
        ids = ["=cmd.mp3", "-a.mp3", "@b.mp3", "'=c.mp3"]
        write(uri, *(row(each, "+Rock", override_by="=ann") for each in ids))
        write(uri, *(row(each, "+Jazz", override_by="=ann") for each in ids))
        for name, arguments in (("export.csv", ("export", uri, "--format", "csv")), ("diff.csv", ("diff", uri))):
            assert mgc_labels(*arguments, "--out", tmp_path / name)[0] == 0
            with (tmp_path / name).open(newline="") as file:
                found = list(csv.DictReader(file))
            assert sorted(each["track_id"] for each in found) == sorted(f"'{each}" for each in ids)
            assert not [cell for each in found for cell in each.values() if cell.startswith(("=", "+", "-", "@"))]
        # What a curator keeps of it is a file of corrections.
        (tmp_path / "c.csv").write_text("track_id,genre,by\n" + "".join(f"\"'{each}\",'+Jazz,'=ann\n" for each in ids))
        kept = read_overrides(Uri.of_path(tmp_path / "c.csv"), ["+Jazz"])
        assert kept["track_id"].to_pylist() == sorted(ids)
        assert set(kept["by"].to_pylist()) == {"=ann"}

    def test_an_earlier_version_and_a_limit(self, uri: Uri, tmp_path: Path, mgc_labels: Run) -> None:
        nights(uri, 2)
        out = str(tmp_path / "o.parquet")
        mgc_labels("export", uri, "--out", out, "--version", "latest-1")
        assert set(pq.read_table(out)["model_id"].to_pylist()) == {"model-0"}
        assert mgc_labels("export", uri, "--out", out, "--limit", "1", "--overwrite")[1]["counts"]["rows"] == 1

    def test_what_is_there_stays(self, uri: Uri, tmp_path: Path) -> None:
        table = self.table(uri)
        out = tmp_path / "o.parquet"
        out.write_bytes(b"mine")
        assert "--overwrite" in refusal(export, table, "parquet", Uri.of_path(out))
        assert out.read_bytes() == b"mine"
        assert export(table, "parquet", Uri.of_path(out), overwrite=True) == 3
        assert "folder" in refusal(export, table, "parquet", Uri.of_path(tmp_path))
        for inside in (str(uri), f"{uri}/x.parquet", f"{uri}/../labels/x.parquet"):
            assert "table's folder" in refusal(export, table, "parquet", Uri.parse(inside))

    def test_what_fails_half_way_leaves_nothing(
        self, uri: Uri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        many = [row(f"{number:04d}") for number in range(5000)]
        write(uri, *many)
        out = tmp_path / "out" / "o.parquet"
        monkeypatch.setattr("cluster.labels.readers.export.ROWS_AT_ONCE", 2048)
        written: list[int] = []
        real = pq.ParquetWriter.write_batch

        def full(self: pq.ParquetWriter, batch: pa.RecordBatch) -> None:
            if written:
                raise OSError(28, "No space left on device")
            written.append(batch.num_rows)
            real(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(pq.ParquetWriter, "write_batch", full)
            line = refusal(export, LabelsTable(uri), "parquet", Uri.of_path(out), error=StorageError)
        assert str(out) in line
        assert "disk" in line
        assert written
        assert list(out.parent.iterdir()) == []
        # A damaged table is not the fault of the file.
        for path in uri.local.glob("*.parquet"):
            path.write_bytes(path.read_bytes()[:2000] + b"PAR1")
        line = refusal(export, LabelsTable(uri), "parquet", Uri.of_path(out))
        assert line.startswith(f"{uri}: ")
        assert "Parquet" in line
        assert list(out.parent.iterdir()) == []

    def test_a_place_that_cannot_be_written(self, uri: Uri, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        out = Uri.of_path(tmp_path / "file" / "o.parquet")
        line = refusal(export, self.table(uri), "parquet", out, error=StorageError)
        assert f"{tmp_path}/file/o.parquet: " in line
