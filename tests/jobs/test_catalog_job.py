"""`mgc catalog`: rows joined, divided and compared on their way, never all in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog, write_catalog
from cluster.tables.catalog_changes import Beside, Changes, earlier_listing
from mgc import schema
from mgc.datasets import jamendo
from mgc.datasets.splits import split_of
from mgc.errors import CatalogError, StorageError
from pipelines.catalog import command
from pipelines.catalogs.index import add_splits
from pipelines.catalogs.metadata import from_table, join_metadata, read_metadata
from pipelines.command.job import run
from tests.support.fma_files import Row, genres_csv, tracks_csv


def tracks(*ids: str, tag: str = "1", **columns: list[Any]) -> pa.Table:
    rows = [{"track_id": each, "uri": f"u/{each}", "size_bytes": 1, "content_tag": tag} for each in ids]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return pa.Table.from_pylist(rows, schema=schema.CATALOG)


def job(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run(command, [str(each) for each in arguments]) == code
    printed = capsys.readouterr()
    return {**json.loads(printed.out.splitlines()[-1]), "stderr": printed.err}


class TestMetadata:
    def known(self, folder: Path, table: pa.Table) -> pa.Table:
        pq.write_table(table, folder / "m.parquet")
        return read_metadata(Uri.of_path(folder / "m.parquet"), {})

    def test_joined_piece_by_piece(self, tmp_path: Path) -> None:
        """Whatever the sizes of the pieces, and wherever the known tracks lie among them."""
        ids = [f"{number:02d}" for number in range(12)]
        artists = {each: f"artist {each}" for each in ids if int(each) % 3 == 0}
        rows = [(None, "nobody"), *reversed(artists.items()), ("zz", "no track"), ("", "no track")]
        columns = {"track_id": [row[0] for row in rows], "artist_id": [row[1] for row in rows]}
        known = self.known(tmp_path, pa.table(columns))
        for cuts in ([12], [1] * 12, [5, 6, 1], [2, 9, 1]):
            starts = [sum(cuts[:place]) for place in range(len(cuts))]
            pieces = (tracks(*ids[start : start + size]) for start, size in zip(starts, cuts, strict=True))
            counts: dict[str, int] = {}
            joined = pa.concat_tables(join_metadata(pieces, from_table(known, "m"), counts))
            assert joined.schema.equals(schema.CATALOG)
            assert joined["track_id"].to_pylist() == ids
            assert joined["artist_id"].to_pylist() == [artists.get(each) for each in ids]
            assert counts == {"known": 4, "unknown": 8}

    def test_of_other_tracks(self, tmp_path: Path) -> None:
        known = self.known(tmp_path, pa.table({"track_id": ["x"], "split": ["test"]}))
        with pytest.raises(CatalogError, match=r"^m: .*SOURCE.*'x'.*'a'"):
            list(join_metadata([tracks("a", "b")], from_table(known, "m"), {}))

    def test_a_track_twice(self, tmp_path: Path) -> None:
        with pytest.raises(CatalogError, match="track_id"):
            self.known(tmp_path, pa.table({"track_id": ["x", "a", "x"], "split": ["test"] * 3}))


def test_splits_are_those_of_their_groups() -> None:
    groups = ["a", "b", None, "a", "c", None]
    table = add_splits(
        tracks(*"123456", artist_id=groups, split=[None, "", None, "test", None, "train"]), "artist_id", 7
    )
    assert table["split"].to_pylist() == [split_of("a", 7), split_of("b", 7), None, "test", split_of("c", 7), "train"]
    assert table.schema.equals(schema.CATALOG)


class TestChanges:
    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    @pytest.mark.parametrize("earlier_size", [1, 2, 100])
    def test_counts(self, size: int, earlier_size: int) -> None:
        def pieces(table: pa.Table, rows: int) -> Iterator[pa.Table]:
            return (table.slice(first, rows) for first in range(0, table.num_rows, rows))

        old = pa.concat_tables([tracks(*"bcdfg"), tracks("h", tag="2"), tracks(*"xyz")])
        new = pa.concat_tables([tracks(*"abd"), tracks("f", tag="2"), tracks("g"), tracks(*"hi")])
        changes = Changes(pieces(old, earlier_size))
        for piece in pieces(new, size):
            changes.add(piece)
        changes.end()
        assert changes.counts == {"new": 2, "changed": 2, "gone": 4, "same": 3}

    def test_out_of_order(self) -> None:
        beside = Beside(iter([tracks("b"), tracks("a")]))
        beside.up_to(None)
        with pytest.raises(CatalogError, match="order"):
            beside.up_to(None)

    def test_only_of_the_same_source(self, tmp_path: Path) -> None:
        target, music = Uri.of_path(tmp_path / "c.parquet"), Uri.parse("/music")
        assert earlier_listing(target, music) is None
        write_catalog(target, [tracks("a")])
        assert earlier_listing(target, music) is None
        write_catalog(target, [tracks("a")], source="/music/")
        assert earlier_listing(target, Uri.parse("/other")) is None
        assert earlier_listing(target, music) is not None


class TestJob:
    @pytest.fixture
    def music(self, tmp_path: Path) -> Path:
        for name in ("a/1.mp3", "a/2.mp3", "b.mp3", "cover.jpg"):
            (tmp_path / "music" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "music" / name).write_bytes(name.encode())
        return tmp_path / "music"

    def test_again(self, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "out"
        facts = job(capsys, music, "--out", out)
        assert facts["counts"] == {"tracks": 3, "bytes": 19, "ignored": 1}
        assert [path.name for path in out.iterdir()] == ["catalog.parquet"]
        (music / "b.mp3").unlink()
        (music / "a/2.mp3").write_bytes(b"other bytes")
        (music / "new.mp3").write_bytes(b"")
        before = (out / "catalog.parquet").read_bytes()
        expected = {"tracks": 3, "bytes": 18, "ignored": 1, "new": 1, "changed": 1, "gone": 1, "same": 1}
        facts = job(capsys, music, "--out", out, "--dry-run")
        assert (facts["status"], facts["counts"]) == ("dry_run", expected)
        assert (out / "catalog.parquet").read_bytes() == before
        # The beginning of a listing says nothing of what is gone, and is no listing to compare with.
        part = job(capsys, music, "--out", tmp_path / "part", "--limit", "1")
        assert part["counts"] == {"tracks": 1, "bytes": 7, "ignored": 0}
        assert "same" not in job(capsys, music, "--out", tmp_path / "part")["counts"]
        facts = job(capsys, music, "--out", out)
        assert facts["counts"] == expected
        assert re.search(r"\b1 new\b.*\b1 changed\b.*\b1 gone\b.*\b1\b", facts["stderr"])
        assert load_catalog(read_catalog(str(out)))["track_id"].to_pylist() == ["a/1.mp3", "a/2.mp3", "new.mp3"]

    @pytest.mark.parametrize("damage", ["no Parquet", "pages"])
    def test_a_damaged_catalog_is_replaced(
        self, damage: str, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "c.parquet"
        job(capsys, music, "--out", target)
        data = target.read_bytes()
        target.write_bytes(b"no Parquet" if damage == "no Parquet" else data[:4] + bytes(60) + data[64:])
        facts = job(capsys, music, "--out", target)
        assert "not compared with" in facts["stderr"]
        assert "same" not in facts["counts"]
        assert read_catalog(str(target)).count_rows() == 3

    def test_parts_that_cannot_be_deleted_do_not_undo_the_catalog(
        self, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(uri: Uri) -> None:
            raise StorageError(f"cannot delete {uri}: permission is denied; change it.")

        monkeypatch.setattr(files, "delete", refuse)
        facts = job(capsys, music, "--out", tmp_path / "c.parquet")
        assert (facts["status"], facts["counts"]["tracks"]) == ("done", 3)
        assert "cannot delete" in facts["stderr"]
        assert read_catalog(str(tmp_path / "c.parquet")).count_rows() == 3

    def test_no_audio_leaves_the_catalog_as_it_was(
        self, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "c.parquet"
        job(capsys, music, "--out", target)
        for path in music.rglob("*.mp3"):
            path.unlink()
        facts = job(capsys, music, "--out", target, code=1)
        assert "no audio file here; 1 other files" in facts["error"]
        assert read_catalog(str(target)).count_rows() == 3


@pytest.mark.cluster
def test_corpora_in_a_bucket(bucket_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Audio, metadata and catalog all in object storage."""
    corpora = {
        "fma/000/000002.mp3": b"2",
        "fma/000/000003.mp3": b"3",
        "fma_metadata/tracks.csv": tracks_csv([Row(2, "Rock", (12,)), Row(5, "Jazz", (4,))]),
        "fma_metadata/genres.csv": genres_csv(),
        "jamendo/14/214.low.mp3": b"4",
        "split-0/autotagging_genre-test.tsv": (
            "\t".join(jamendo.HEADER) + "\r\ntrack_214\tartist_14\talbum_31\t14/214.mp3\t124.6\tgenre---punkrock\r\n"
        ).encode(),
        "split-0/autotagging-test.tsv": b"not read",
    }
    for name, data in corpora.items():
        files.write_bytes(f"{bucket_uri}/{name}", data)
    out = f"{bucket_uri}/c.parquet"
    metadata = f"{bucket_uri}/fma_metadata/"
    facts = job(capsys, f"{bucket_uri}/fma/", "--corpus", "fma", "--metadata", metadata, "--out", out)
    assert [facts["counts"][name] for name in ("tracks", "known", "unknown", "missing")] == [2, 1, 1, 1]
    assert load_catalog(read_catalog(out))["genre_top"].to_pylist() == ["Rock", None]
    metadata = f"{bucket_uri}/split-0"
    facts = job(capsys, f"{bucket_uri}/jamendo", "--corpus", "jamendo-low", "--metadata", metadata, "--out", out)
    assert [facts["counts"][name] for name in ("tracks", "known", "unknown", "missing")] == [1, 1, 0, 0]
    assert load_catalog(read_catalog(out))["split"].to_pylist() == ["test"]
