"""A run of the label job where nothing more can be written: the table stays as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake.exceptions import DeltaError

from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.parquet import write_part
from mgc.errors import StorageError
from tests.support.nights import NOW, held, night, planned, refusal, stage


class TestNoRoom:
    def test_a_full_disk(self, tmp_path: Path) -> None:
        """In a mount namespace of its own, so that nothing stays mounted whatever happens to the test."""
        if shutil.which("unshare") is None or shutil.which("mount") is None:
            pytest.skip("needs unshare and mount (util-linux) to make a small disk")
        script = 'mount -t tmpfs -o size=512k tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1" "$4"'
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "-", str(tmp_path), sys.executable]
        root = Path(files.__file__).parents[2]
        with tempfile.TemporaryDirectory() as elsewhere:
            done = subprocess.run(
                [*command, ON_A_SMALL_DISK, elsewhere], capture_output=True, text=True, timeout=120, cwd=root
            )
        if done.returncode == 77 or "unshare:" in done.stderr:
            pytest.skip(f"this machine does not let us mount a small disk: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["tracks"] == ["a"]
        assert said["version"] == 0
        for step in ("freeze", "stage", "commit"):
            assert said[step].startswith("StorageError: "), said
            assert "disk" in said[step]
        assert said["with room again"] == 1

    def test_a_folder_that_is_shut(self) -> None:
        # Not in pytest's own folder, into which an ordinary user cannot even look.
        with tempfile.TemporaryDirectory() as folder:
            uri = Uri.parse(folder) / "labels"
            night(uri, {"a": "1"})
            table = LabelsTable(uri)
            plan = planned(table, {"a": "2"})
            stage(table, plan)
            for path in (Path(folder), uri.local, uri.local / "_delta_log"):
                path.chmod(0o555)
            with as_ordinary_user():
                line = refusal(table.commit, plan, plan.key, NOW, error=StorageError)
            for path in (Path(folder), uri.local, uri.local / "_delta_log"):
                path.chmod(0o755)
            assert f"{uri}: permission" in line
            assert held(uri)["a"]["content_tag"] == "1"
            assert table.commit(plan, plan.key, NOW).version == 1

    def test_a_write_that_fails_half_way(self, uri: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
        """Data files are written, the log is not: readers see yesterday, and the next submission commits."""
        night(uri, {"a": "1"})
        tracks = {"a": "2", "b": "1"}
        with monkeypatch.context() as patch:
            patch.setattr(LabelsTable, "_enter", leave_half)
            line = refusal(night, uri, tracks)
        assert line.startswith(f"{uri}: ")
        assert "out of luck" in line
        assert LabelsTable(uri).version == 0
        assert held(uri)["a"]["content_tag"] == "1"
        night(uri, tracks)
        assert {track: row["content_tag"] for track, row in held(uri).items()} == tracks


def leave_half(self: LabelsTable, rows: pa.RecordBatchReader, *args: Any, **options: Any) -> None:
    write_part(self.uri, rows.read_all())
    raise DeltaError("out of luck")


class as_ordinary_user:  # noqa: N801
    """Root may do everything: be nobody for a while."""

    def __enter__(self) -> None:
        self.root = os.geteuid() == 0
        if self.root:
            os.seteuid(65534)

    def __exit__(self, *args: object) -> None:
        if self.root:
            os.seteuid(0)


ON_A_SMALL_DISK = """
import json, os, sys
from pathlib import Path
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc.errors import MgcError
from tests.support.nights import NOW, held, night, planned, stage
disk, elsewhere = sys.argv[1], sys.argv[2]
uri, said = Uri.parse(disk) / "labels", {}
night(uri, {"a": "1"})
def attempt(step, action):
    try:
        action(); said[step] = None
    except MgcError as error:
        said[step] = type(error).__name__ + ": " + str(error)
many = {f"{number:05d}" + os.urandom(8).hex(): os.urandom(16).hex() for number in range(3000)} | {"a": "1"}
table = LabelsTable(uri)
plan = planned(table, many)
few = planned(table, {"a": "1", "b": os.urandom(16).hex()})
filler = Path(disk, "filler")
def fill(leave):
    filler.write_bytes(bytes(os.statvfs(disk).f_bavail * 4096 - leave))
fill(8 << 10)
attempt("freeze", lambda: table.run(plan).freeze())
attempt("stage", lambda: stage(table, plan))
filler.unlink()
stage(table, few)
fill(0)
attempt("commit", lambda: table.commit(few, few.key, NOW))
latest = LabelsTable(uri)
said["tracks"], said["version"] = sorted(held(uri)), latest.version
filler.unlink()
said["with room again"] = table.commit(few, few.key, NOW).version
print(json.dumps(said))
"""
