"""Jobs on catalogs that lie: refused in a line before anything is read, or labelled as if the catalog were true."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage.uri import Uri
from cluster.streams.listening import Listen, ListenRequest
from cluster.tables.catalog import read_catalog, write_catalog
from mgc import schema
from mgc.labeling.throughput import Throughput
from mgc.recipes.house import house
from pipelines import catalog, label, plan, prepare, train
from pipelines.catalogs.sources import list_source
from pipelines.command.job import run
from pipelines.nights.forecast import workload_of
from tests.support.good_files import good_files

JOBS: dict[str, tuple[Any, Sequence[str]]] = {
    "label": (label.command, ("--labels",)),
    "plan": (plan.command, ("--labels",)),
    "prepare": (prepare.command, ("--out",)),
}
"""Jobs that listen to the tracks of a catalog, and their option for what they write."""


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tracks that can be heard, one that is empty and one that is no music."""
    folder = tmp_path_factory.mktemp("music")
    for number, file in enumerate(list(good_files())[:5]):
        (folder / f"{number}{Path(file.name).suffix}").write_bytes(file.data)
    (folder / "5.mp3").write_bytes(b"")
    (folder / "6.mp3").write_bytes(b"no music at all" * 100)
    return folder


def said(capsys: pytest.CaptureFixture[str], command: Any, *arguments: object, code: int = 0) -> dict[str, Any]:
    """The summary, and what was printed on stderr."""
    capsys.readouterr()
    assert run(command, [str(each) for each in arguments]) == code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return {**json.loads(printed.out.splitlines()[-1]), "stderr": printed.err}


def refusal(capsys: pytest.CaptureFixture[str], command: Any, *arguments: object) -> str:
    facts = said(capsys, command, *arguments, code=1)
    [line] = [line for line in facts["stderr"].splitlines() if line.startswith("mgc ")]
    assert facts["error"] in line
    return str(facts["error"])


@pytest.mark.parametrize("job", list(JOBS))
class TestRefused:
    def test_tracks_of_others(self, job: str, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Before a file is opened, and without a word of it."""
        command, [option] = JOBS[job]
        secret = tmp_path / "secret.mp3"
        for there in (False, True):
            if there:
                secret.write_bytes(b"x" * 4321)
            tracks, _ = list_source(Uri.of_path(music))
            uris = pa.array([*tracks["uri"].to_pylist()[:-1], str(secret)])
            target = tmp_path / "catalog.parquet"
            write_catalog(
                Uri.of_path(target),
                [tracks.set_column(1, schema.CATALOG.field("uri"), uris)],
                source=Uri.of_path(music),
            )
            line = refusal(capsys, command, target, option, tmp_path / "out")
            assert line == (
                f"{target}: 1 track outside the allowed roots ({music}), the first is '6.mp3' in {tmp_path}. If "
                "mgc may read there, name every root of the catalog with `--allow-root`, for example `--allow-root "
                f"{tmp_path}`."
            )
        assert not (tmp_path / "out").exists()

    def test_a_bomb(self, job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command, [option] = JOBS[job]
        rows = 100_000
        long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["/music/" + "x" * 70_000]))
        table = pa.table(
            {
                "track_id": [f"{number:06d}" for number in range(rows)],
                "uri": long,
                "size_bytes": np.ones(rows, np.int64),
                "content_tag": ["1"] * rows,
            }
        )
        target = tmp_path / "catalog.parquet"
        pq.write_table(table, target, compression="zstd")
        assert target.stat().st_size < 2**19
        line = refusal(capsys, command, target, option, tmp_path / "out", "--allow-root", "/music")
        assert line.startswith(f"{target}, row 1: its uri is 70,007 bytes long")


def test_roots_are_named_or_those_of_the_source(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, labels = tmp_path / "catalog.parquet", ("--labels", tmp_path / "labels")
    for limit in ((), ("--limit", "3")):
        said(capsys, catalog.command, music, "--out", target, *limit)
        assert said(capsys, plan.command, target, *labels)["counts"]["new"] == (3 if limit else 7)
    for way in (
        (music,),
        (target, "--allow-root", music),
        (target, "--allow-root", "/x", "--allow-root", music.parent),
    ):
        assert said(capsys, plan.command, *way, *labels)["status"] == "dry_run"
    assert "(/x)" in refusal(capsys, plan.command, target, *labels, "--allow-root", "/x")
    line = refusal(capsys, train.command, "--catalog", target, "--allow-root", "/x", "--out", tmp_path / "bundle")
    assert "(/x)" in line


def test_the_last_catalog_is_not_believed(music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is compared with the new one where that is possible, and replaced in any case."""
    target = tmp_path / "catalog.parquet"
    said(capsys, catalog.command, music, "--out", target)
    old = pq.read_table(target)
    long = pa.array(["x" * 20_000] * old.num_rows)
    pq.write_table(old.set_column(3, "content_tag", long).replace_schema_metadata(old.schema.metadata), target)
    facts = said(capsys, catalog.command, music, "--out", target)
    assert "row 1: its content_tag is 20,000 bytes long" in facts["stderr"]
    assert facts["counts"]["tracks"] == read_catalog(Uri.of_path(target)).count_rows() == 7


def test_sizes_that_are_not_true_change_no_answer(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage hears the same tracks, and the plan adds up nonsense without a failure."""
    tracks, _ = list_source(Uri.of_path(music))
    sizes = pa.array([1, 2**60, 0, -1, 2**62, 2**62, -(2**63)])
    lying = tracks.set_column(2, schema.CATALOG.field("size_bytes"), sizes)
    needed = pa.schema([schema.CATALOG.field(name) for name in schema.CATALOG_REQUIRED])
    listen = Listen(ListenRequest(None, tracks.num_rows, needed, house().hearing))
    heard = []
    for table in (tracks, lying):
        batch = {name: np.array(table[name].to_pylist(), dtype=object) for name in needed.names}
        batch["size_bytes"] = table["size_bytes"].to_numpy()
        heard.append(listen(batch).drop_columns("size_bytes"))
    assert heard[0].equals(heard[1])
    assert heard[0]["error_kind"].to_pylist() == [None] * 5 + ["empty", "not_audio"]
    target = tmp_path / "lying.parquet"
    write_catalog(Uri.of_path(target), [lying], source=Uri.of_path(music))
    facts = said(capsys, plan.command, target, "--labels", tmp_path / "labels")
    assert facts["counts"]["size_bytes"] >= 2**62
    past = Throughput(tracks=7, audio_seconds=70.0)
    assert workload_of(7, 0, [past], 0).size_bytes > 0
