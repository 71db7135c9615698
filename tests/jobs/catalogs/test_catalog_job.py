"""`mgc catalog`: rows joined, divided and compared on their way, never all in memory."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage import files
from cluster.storage.listing.facts import Survey
from cluster.storage.selection import Selection
from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog, write_catalog
from cluster.tables.catalog_changes import Beside, Changes, earlier_listing
from mgc import schema
from mgc.datasets import folder, jamendo
from mgc.datasets.splits import split_of
from mgc.errors import CatalogError, StorageError
from pipelines import plan
from pipelines.catalog import command
from pipelines.catalogs.index import add_splits
from pipelines.catalogs.metadata import from_table, join_metadata, read_metadata
from pipelines.catalogs.sources import open_catalog
from pipelines.command.job import run
from tests.support.fma_files import Row, genres_csv, tracks_csv
from tests.support.nights import night


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

    def test_what_a_csv_says_stays_text(self, tmp_path: Path) -> None:
        (tmp_path / "numbers.csv").write_text("file,genre_top,artist_id\n007,2,01\n1e5,3,1e3\n")
        numbers = read_metadata(Uri.of_path(tmp_path / "numbers.csv"), {"track_id": "file"})
        columns = {"track_id": ["007", "1e5"], "genre_top": ["2", "3"], "artist_id": ["01", "1e3"]}
        assert {name: numbers[name].to_pylist() for name in columns} == columns
        (tmp_path / "m.csv").write_text(
            "file,genre_top,artist_id,duration_seconds\n007, Rock ,01,1.5\n1e5,N/A,1e3,\nNA,  ,NULL,n/a\n"
            "b,nan,,2\nc,Unknown,x,3\n"
        )
        known = read_metadata(Uri.of_path(tmp_path / "m.csv"), {"track_id": "file"})
        assert known["track_id"].to_pylist() == ["007", "1e5", "NA", "b", "c"]
        assert known["genre_top"].to_pylist() == ["Rock", None, None, None, None]
        assert known["artist_id"].to_pylist() == ["01", "1e3", "NULL", None, "x"]
        assert known["duration_seconds"].to_pylist() == [1.5, None, None, 2.0, 3.0]

    def test_lists_of_genres_without_words_for_none(self, tmp_path: Path) -> None:
        lists = [["Rock", "nan"], ["  "], None, [" Pop"], []]
        known = self.known(tmp_path, pa.table({"track_id": list("abcde"), "genres": lists}))
        assert known["genres"].to_pylist() == [["Rock"], None, None, ["Pop"], None]

    def test_a_name_is_written_in_one_way(self, tmp_path: Path) -> None:
        """Whether its letters are composed, as on most systems, or not, as in names of files on a Mac."""
        names = ["Cumbia Pe\u00f1a", "Cumbia Pen\u0303a"]
        columns = dict.fromkeys(("genre_top", "artist_id", "album_id"), names) | {"genres": [[name] for name in names]}
        known = self.known(tmp_path, pa.table({"track_id": ["a", "b"], **columns}))
        for name in columns:
            assert known[name][0] == known[name][1]
        known = folder.metadata_table([f"{name}/1.mp3" for name in names])
        assert len(set(known["genre_top"].to_pylist())) == 1

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

    @pytest.mark.parametrize("size", [1, 2, 100])
    def test_a_track_that_cannot_be_seen_is_not_gone(self, size: int) -> None:
        old, new = tracks("a", "b/1", "b/2", "c/3", "d"), tracks("a", "d")
        survey = Survey(unreadable=["b"])
        changes = Changes(iter([old]), survey)
        for first in range(0, new.num_rows, size):
            changes.add(new.slice(first, size))
        changes.end()
        assert changes.counts == {"new": 0, "changed": 0, "gone": 1, "same": 2, "unseen": 2}

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
        write_catalog(target, [tracks("a")], source=Uri.parse("/music/"))
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
        seen = {"passed_over": 1, "passed_over_by": {".jpg": 1}, "looked_at": 0, "unreadable": 0}
        assert facts["counts"] == {"tracks": 3, "bytes": 19} | seen
        assert "1 passed over (1 .jpg)" in facts["stderr"]
        assert [path.name for path in out.iterdir()] == ["catalog.parquet"]
        (music / "b.mp3").unlink()
        (music / "a/2.mp3").write_bytes(b"other bytes")
        (music / "new.mp3").write_bytes(b"")
        before = (out / "catalog.parquet").read_bytes()
        expected = {"tracks": 3, "bytes": 18, "new": 1, "changed": 1, "gone": 1, "same": 1} | seen
        facts = job(capsys, music, "--out", out, "--dry-run")
        assert (facts["status"], facts["counts"]) == ("dry_run", expected)
        assert (out / "catalog.parquet").read_bytes() == before
        # The beginning of a listing says nothing of what is gone, and is no listing to compare with.
        part = job(capsys, music, "--out", tmp_path / "part", "--limit", "1")
        nothing = {"passed_over": 0, "passed_over_by": {}, "looked_at": 0, "unreadable": 0}
        assert part["counts"] == {"tracks": 1, "bytes": 7} | nothing
        assert "same" not in job(capsys, music, "--out", tmp_path / "part")["counts"]
        facts = job(capsys, music, "--out", out)
        assert facts["counts"] == expected
        assert re.search(r"\b1 new\b.*\b1 changed\b.*\b1 gone\b.*\b1\b", facts["stderr"])
        assert load_catalog(read_catalog(Uri.of_path(out)))["track_id"].to_pylist() == ["a/1.mp3", "a/2.mp3", "new.mp3"]

    def test_patterns_choose_files(self, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        facts = job(capsys, music, "--out", tmp_path / "c", "--exclude", "a/2.*", "--include", "*.mp3")
        assert facts["counts"]["passed_over_by"] == {"excluded": 1, "not included": 1}
        assert load_catalog(read_catalog(Uri.of_path(tmp_path / "c")))["track_id"].to_pylist() == ["a/1.mp3", "b.mp3"]
        assert "--exclude" in job(capsys, music, "--out", tmp_path / "c", "--exclude", "/", code=2)["error"]

    def test_a_catalog_tells_what_its_listing_saw(
        self, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job(capsys, music, "--out", tmp_path / "c")
        catalog = open_catalog(Uri.of_path(tmp_path / "c"))
        assert catalog.survey == Survey(Counter({".jpg": 1}))
        with pytest.raises(click.UsageError, match="is a catalog"):
            open_catalog(Uri.of_path(tmp_path / "c"), selection=Selection(exclude=("a",)))

    def test_a_night_removes_no_track_that_the_listing_could_not_see(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        night(Uri.of_path(tmp_path / "labels"), {"a": "1", "shut/b": "1", "c": "1"})
        survey = Survey(Counter({".bit": 2}), ["shut"])
        rows = tracks("a", uri=["s3://m/a"])
        write_catalog(Uri.of_path(tmp_path / "c.parquet"), [rows], roots=(Uri.parse("s3://m"),), survey=survey)
        capsys.readouterr()
        arguments = [f"{tmp_path}/c.parquet", "--labels", f"{tmp_path}/labels", "--bundle", "shipped"]
        assert run(plan.command, arguments) == 0
        counts = json.loads(capsys.readouterr().out.splitlines()[-1])["counts"]
        expected = {"removed": 1, "unseen": 1, "passed_over": 2, "passed_over_by": {".bit": 2}, "unreadable": 1}
        assert {name: counts[name] for name in expected} == expected

    def test_a_survey_of_another_program_is_not_believed(self, music: Path, tmp_path: Path) -> None:
        target = tmp_path / "c.parquet"
        for text in ("no JSON", "[]", '{"passed_over": {"x": -1}, "unreadable": [], "looked_at": 0}', "[" * 100_000):
            with pq.ParquetWriter(target, schema.CATALOG) as writer:
                writer.write_table(tracks("a", uri=["s3://m/a"]))
                writer.add_key_value_metadata({"mgc_survey": text})
            with pytest.raises(CatalogError, match="mgc_survey"):
                open_catalog(Uri.of_path(target), (Uri.parse("s3://m"),))

    @pytest.mark.parametrize("name", ["tracks.csv", "tracks.tsv", "list.xlsx"])
    def test_a_table_of_another_kind_is_named(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / name).write_text("track_id,genre_top\na,Rock\n")
        error = job(capsys, tmp_path / name, "--out", tmp_path / "c", code=1)["error"]
        for word in (name, Path(name).suffix, "Parquet", "--metadata"):
            assert word in error
        # A table of labels is no reason to take it for a catalog that has lost its tracks.
        with pytest.raises(CatalogError, match=name):
            open_catalog(Uri.of_path(tmp_path / name), may_be_empty=True)

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
        assert read_catalog(Uri.of_path(target)).count_rows() == 3

    def test_parts_that_cannot_be_deleted_do_not_undo_the_catalog(
        self, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(uri: Uri) -> None:
            raise StorageError(f"cannot delete {uri}: permission is denied; change it.")

        monkeypatch.setattr(files, "delete", refuse)
        facts = job(capsys, music, "--out", tmp_path / "c.parquet")
        assert (facts["status"], facts["counts"]["tracks"]) == ("done", 3)
        assert "cannot delete" in facts["stderr"]
        assert read_catalog(Uri.of_path(tmp_path / "c.parquet")).count_rows() == 3

    def test_no_audio_leaves_the_catalog_as_it_was(
        self, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "c.parquet"
        job(capsys, music, "--out", target)
        for path in music.rglob("*.mp3"):
            path.unlink()
        facts = job(capsys, music, "--out", target, code=1)
        assert "no audio file here; 1 passed over (1 .jpg)" in facts["error"]
        assert read_catalog(Uri.of_path(target)).count_rows() == 3


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
        files.write_bytes(Uri.parse(f"{bucket_uri}/{name}"), data)
    out = f"{bucket_uri}/c.parquet"
    metadata = f"{bucket_uri}/fma_metadata/"
    facts = job(capsys, f"{bucket_uri}/fma/", "--corpus", "fma", "--metadata", metadata, "--out", out)
    assert [facts["counts"][name] for name in ("tracks", "known", "unknown", "missing")] == [2, 1, 1, 1]
    assert load_catalog(read_catalog(Uri.parse(out)))["genre_top"].to_pylist() == ["Rock", None]
    metadata = f"{bucket_uri}/split-0"
    facts = job(capsys, f"{bucket_uri}/jamendo", "--corpus", "jamendo-low", "--metadata", metadata, "--out", out)
    assert [facts["counts"][name] for name in ("tracks", "known", "unknown", "missing")] == [1, 1, 0, 0]
    assert load_catalog(read_catalog(Uri.parse(out)))["split"].to_pylist() == ["test"]
