"""`mgc labels diff`: what differs between two versions of a labels table."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pyarrow.csv as pacsv
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from cluster.labels.diff import DIFFERENCES, KINDS, diff
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc.errors import ResourceError
from tests.support.nights import NOW, night, refusal
from tests.support.versions import Run, row, write


class TestDiff:
    def test_every_kind_of_difference(self, uri: Uri, mgc_labels: Run, tmp_path: Path) -> None:
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

    def test_files_that_both_versions_have_are_not_compared(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        night(uri, {f"{number:03d}": "1" for number in range(100)})
        night(uri, {f"{number:03d}": "1" for number in range(103)})
        scanned: list[int] = []
        real = LabelsTable.dataset

        def scan(self: LabelsTable, names: Collection[str] | None = None) -> pads.Dataset:
            rows = real(self, names)
            if names is not None:
                scanned.append(rows.count_rows())
            return rows

        monkeypatch.setattr(LabelsTable, "dataset", scan)
        found = diff(uri, 0, 1)
        assert found.counts["added"] == 3
        assert found.counts["same"] == 100
        # Shared, before, after, and the last counted once more.
        assert scanned == [100, 0, 3, 3]

    def test_as_csv_and_not_over_a_file(self, uri: Uri, tmp_path: Path, mgc_labels: Run) -> None:
        write(uri, row("a"))
        write(uri, row("a", 'Jazz, "cool"'))
        out = str(tmp_path / "d.csv")
        assert mgc_labels("diff", uri, "0", "latest", "--out", out)[0] == 0
        assert pacsv.read_csv(out)["genre_after"].to_pylist() == ['Jazz, "cool"']
        code, _, _, said = mgc_labels("diff", uri, "--out", out)
        assert code == 1
        assert "--overwrite" in said
        assert mgc_labels("diff", uri, "--out", out, "--overwrite")[0] == 0

    def test_text_that_a_terminal_would_obey(self, uri: Uri, mgc_labels: Run) -> None:
        write(uri, row("\x1b[31ma[/b]"))
        write(uri, row("\x1b[31ma[/b]", "Jazz"))
        code, _, printed, _ = mgc_labels("diff", uri)
        assert code == 0
        assert "\x1b[31m" not in printed
        assert "[31ma[/b]" in printed

    def test_more_than_the_memory(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        """A query that does not fit is one line; one that fits on the disk goes there."""
        many = [row(f"{number:05d}" * 8) for number in range(3000)]
        write(uri, *many)
        write(uri, *(each | {"genre_top": "Jazz"} for each in many))
        monkeypatch.setattr("cluster.tables.duckdb.MEMORY_LIMIT", "1MB")
        line = refusal(diff, uri, 0, 1, error=ResourceError)
        assert "1MB" in line
