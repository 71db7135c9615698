"""`mgc catalog --tags`: genre, artist and album from the files' own tags, in a folder and in a bucket."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mutagen.id3 import TCON

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog
from mgc import schema
from mgc.tags.reader import BLOCK_BYTES, MOST_READ_BYTES
from pipelines.catalog import command
from pipelines.command.job import run
from tests.damage.junk import id3_tag
from tests.support.fault_proxy import Fault, Faults, Proxy
from tests.unit.tags.tagged_files import WRITERS, Texts, id3_tags, plain_file

ROCK: Texts = {
    "genre": ["hiphop; Zamrock"],
    "artist": ["The  Band"],
    "album": ["First"],
    "title": ["One"],
    "date": ["1999-05"],
}

FILES = {
    "a.mp3": WRITERS["ID3v2.3"]({"genre": ["(17)"], "artist": ["THE BAND"]}),
    "b.flac": WRITERS["FLAC"](ROCK),
    "c.m4a": WRITERS["M4A"]({"genre": ["Hip-Hop/Rap"], "artist": ["Someone"], "album_artist": ["Various Artists"]}),
    "d.ogg": WRITERS["Ogg Vorbis"]({"genre": ["Zamrock"], "artist": ["A"]}),
    "e.mp3": plain_file(".mp3"),
    "f.mp3": WRITERS["ID3v2.4"]({"genre": ["Other"]}),
    "g.mp3": b"",
    "h.m4a": b"\0\0\0\x08ftyp\0\0\0\x01moov",
}


def job(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run(command, [str(each) for each in arguments]) == code
    printed = capsys.readouterr()
    return {**json.loads(printed.out.splitlines()[-1]), "stderr": printed.err}


def rows(catalog: Path) -> dict[str, dict[str, Any]]:
    return {row["track_id"]: row for row in pq.read_table(catalog).to_pylist()}


@pytest.fixture
def music(tmp_path: Path) -> Path:
    (tmp_path / "music").mkdir()
    for name, data in FILES.items():
        (tmp_path / "music" / name).write_bytes(data)
    return tmp_path / "music"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "c.parquet"


def counts_of(facts: dict[str, Any]) -> dict[str, int]:
    names = (
        "tags_read",
        "tags_kept",
        "genre_known",
        "genre_mapped",
        "genre_unknown",
        "genre_left_out",
        "genre_missing",
        "tags_unreadable",
    )
    return {name: facts["counts"][name] for name in (*names, "artist_missing") if facts["counts"][name]}


class TestLocal:
    def test_columns(self, music: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        facts = job(capsys, music, "--tags", "--out", out)
        assert counts_of(facts) == {
            "tags_read": 8,
            "genre_known": 2,
            "genre_mapped": 1,
            "genre_unknown": 1,
            "genre_missing": 3,
            "tags_unreadable": 1,
            "artist_missing": 4,
        }
        assert facts["counts"]["genre_unknown_by"] == {"Zamrock": 2}
        found = rows(out)
        known = {"a.mp3": "Rock", "b.flac": "Hip-Hop", "c.m4a": "Hip-Hop"}
        assert {name: row["genre_top"] for name, row in found.items()} == dict.fromkeys(FILES) | known
        told = {
            "genre_tag": "hiphop; Zamrock",
            "genres": ["Hip-Hop"],
            "artist_id": "the band",
            "artist_name": "The Band",
        }
        told |= {"album_id": "the band / first", "album": "First", "title": "One", "year": 1999, "tag_error": None}
        assert {name: found["b.flac"][name] for name in told} == told
        assert (found["a.mp3"]["artist_id"], found["c.m4a"]["artist_id"]) == ("the band", "someone")
        assert found["h.m4a"]["tag_error"]
        assert load_catalog(read_catalog(Uri.of_path(out))).schema.equals(schema.CATALOG)

    def test_splits_keep_artists_together(self, music: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        job(capsys, music, "--tags", "--split-by", "artist_id", "--out", out)
        found = rows(out)
        assert found["a.mp3"]["split"] == found["b.flac"]["split"]
        assert found["e.mp3"]["split"] is None

    def test_a_split_is_mentioned_only_where_there_is_one(
        self, music: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for options, is_split in ((["--split-by", "artist_id"], True), ([], False)):
            [line] = [
                line
                for line in job(capsys, music, "--tags", *options, "--out", out)["stderr"].splitlines()
                if "4 tracks" in line
            ]
            assert ("artist_id" in line) == is_split

    def test_ids_from_the_last_listing_are_renewed(
        self, music: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (music / "i.mp3").write_bytes(WRITERS["FLAC"]({"artist": ["Bj\u00f6rk"]}))
        job(capsys, music, "--tags", "--out", out)
        table = pq.read_table(out)
        older = [each and each.replace("\u00f6", "o\u0308") for each in table["artist_id"].to_pylist()]
        place = table.schema.get_field_index("artist_id")
        pq.write_table(table.set_column(place, table.schema.field(place), [older]), out)
        (music / "j.mp3").write_bytes((music / "i.mp3").read_bytes())
        assert counts_of(job(capsys, music, "--tags", "--out", out))["tags_kept"] == 8
        found = rows(out)
        assert found["i.mp3"]["artist_id"] == found["j.mp3"]["artist_id"] == "bj\u00f6rk"

    def test_only_new_and_changed_files_are_read_again(
        self, music: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job(capsys, music, "--tags", "--out", out)
        before = rows(out)
        # What was unreadable is read again.
        assert counts_of(job(capsys, music, "--tags", "--out", out))["tags_read"] == 1
        assert rows(out) == before
        (music / "a.mp3").write_bytes(WRITERS["FLAC"]({"genre": ["Jazz"]}))
        (music / "i.mp3").write_bytes(FILES["a.mp3"])
        (music / "h.m4a").unlink()
        (tmp_path / "own.csv").write_text("spelling,genre\nzam-rock,Rock\n")
        facts = job(capsys, music, "--tags", "--aliases", tmp_path / "own.csv", "--out", out)
        assert counts_of(facts)["tags_read"] == 2
        assert counts_of(facts)["tags_kept"] == 6
        # The genres of files that are not read again follow the new tables.
        found = rows(out)
        assert [found[name]["genre_top"] for name in ("a.mp3", "d.ogg", "i.mp3")] == ["Jazz", "Rock", "Rock"]
        assert found["b.flac"]["genres"] == ["Hip-Hop", "Rock"]

    def test_another_source_or_a_catalog_without_tags_gives_nothing(
        self, music: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job(capsys, music, "--out", out)
        assert counts_of(job(capsys, music, "--tags", "--out", out))["tags_read"] == 8
        out.write_bytes(b"no Parquet")
        facts = job(capsys, music, "--tags", "--out", out)
        assert counts_of(facts)["tags_read"] == 8

    def test_a_lying_catalog_is_not_believed(self, music: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        job(capsys, music, "--tags", "--out", out)
        table = pq.read_table(out)
        place = table.schema.get_field_index("genre_tag")
        tall = table.set_column(place, "genre_tag", [["x" * 100_000] * table.num_rows])
        pq.write_table(tall, out)
        assert counts_of(job(capsys, music, "--tags", "--out", out))["tags_read"] == 8
        other = table.set_column(place, "genre_tag", [list(range(table.num_rows))])
        pq.write_table(other, out)
        assert counts_of(job(capsys, music, "--tags", "--out", out))["tags_read"] == 8

    def test_whitelist_and_tree(
        self, music: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "w.txt").write_text("Urban\nRokc\n")
        (tmp_path / "t.csv").write_text("genre,parent\nHip-Hop,Urban\n")
        options = ("--tags", "--whitelist", tmp_path / "w.txt", "--tree", tmp_path / "t.csv", "--out", out)
        facts = job(capsys, music, *options)
        assert counts_of(facts)["genre_mapped"] == 2
        assert facts["counts"]["genre_unknown_by"] == {"Zamrock": 2}
        assert facts["counts"]["genre_left_out_by"] == {"Rock": 1}
        assert (counts_of(facts)["genre_left_out"], counts_of(facts)["genre_unknown"]) == (1, 1)
        assert "1 'Rock'" in facts["stderr"]
        assert "'Rokc'" in facts["stderr"]
        assert {row["genre_top"] for row in rows(out).values()} == {None, "Urban"}

    @pytest.mark.parametrize(
        ("options", "code", "named"),
        [
            (["--whitelist", "w"], 2, "--tags"),
            (["--tags", "--tree", "w"], 2, "--whitelist"),
            (["--tags", "--corpus", "gtzan"], 2, "--corpus"),
            (["--tags", "--metadata", "w"], 2, "--metadata"),
            (["--tags", "--aliases", "missing.csv"], 1, "missing.csv"),
            (["--tags", "--aliases", "w"], 2, "spelling,genre"),
            (["--tags", "--whitelist", "w", "--tree", "circle"], 2, "circle"),
        ],
    )
    def test_wrong_options(
        self,
        options: list[str],
        code: int,
        named: str,
        music: Path,
        out: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("w").write_text("Rock\n")
        Path("circle").write_text("genre,parent\na,b\nb,a\n")
        assert named in job(capsys, music, *options, "--out", out, code=code)["error"]
        assert not out.exists()

    def test_files_that_cannot_be_read(self, music: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        if os.geteuid() == 0:
            pytest.skip("root reads everything")
        (music / "a.mp3").chmod(0)
        facts = job(capsys, music, "--tags", "--out", out)
        assert counts_of(facts)["tags_unreadable"] == 2
        assert "a.mp3" in facts["stderr"]

    def test_dry_run(self, music: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert counts_of(job(capsys, music, "--tags", "--out", out, "--dry-run"))["tags_read"] == 8
        assert not out.exists()


@pytest.mark.cluster
class TestBucket:
    def test_pictures_are_not_downloaded(
        self, bucket_uri: str, store_proxy: Proxy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stream = io.BytesIO()
        id3_tags({"genre": ["Rock"], "artist": ["A"]}).save(stream, v1=0, padding=lambda _: 0)
        size = 10_000_000
        picture = b"APIC" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(2) + bytes(size)
        data = {
            f"{number:02d} # .mp3": id3_tag(picture + stream.getvalue()[10:]) + bytes(1_000_000) for number in range(2)
        }
        data |= {f"small{number}.mp3": FILES["a.mp3"] + bytes(900_000) for number in range(20)}
        data |= {f"lossless{number}.flac": FILES["b.flac"] for number in range(20)}
        for name, each in data.items():
            files.write_bytes(Uri.parse(f"{bucket_uri}/music/{name}"), each)
        out, bucket = f"{bucket_uri}/c.parquet", bucket_uri.removeprefix("s3://")
        store_proxy.forget()
        facts = job(capsys, f"{bucket_uri}/music", "--tags", "--out", out)
        assert facts["counts"]["genre_known"] == len(data)
        asked = store_proxy.requests("GET", "music/*", bucket)
        sent = {name: sum(each.sent_bytes for each in asked if each.key == f"music/{name}") for name in data}
        assert 0 < max(sent.values()) <= 4 * BLOCK_BYTES < MOST_READ_BYTES
        assert len(asked) <= 3 * len(data)
        store_proxy.forget()
        facts = job(capsys, f"{bucket_uri}/music", "--tags", "--out", out)
        assert facts["counts"]["tags_kept"] == len(data)
        assert store_proxy.requests("GET", "music/*", bucket) == []

    def test_an_object_that_is_refused_is_a_count(
        self, bucket_uri: str, store_proxy: Proxy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("a.mp3", "b.flac"):
            files.write_bytes(Uri.parse(f"{bucket_uri}/music/{name}"), FILES[name])
        bucket = bucket_uri.removeprefix("s3://")
        with store_proxy.armed(Faults((Fault.DENIED,), "music/a.mp3", bucket)):
            facts = job(capsys, f"{bucket_uri}/music", "--tags", "--out", f"{bucket_uri}/c.parquet")
        assert (facts["counts"]["tags_unreadable"], facts["counts"]["genre_known"]) == (1, 1)
        facts = job(capsys, f"{bucket_uri}/music", "--tags", "--out", f"{bucket_uri}/c.parquet")
        assert (facts["counts"]["tags_read"], facts["counts"]["genre_known"]) == (1, 2)


def test_every_genre_of_id3v1_is_known(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(len(TCON.GENRES)):
        (tmp_path / f"{number:03d}.mp3").write_bytes(bytes(500) + b"TAG" + bytes(124) + bytes([number]))
    facts = job(capsys, tmp_path, "--tags", "--out", out)
    assert facts["counts"]["genre_unknown_by"] == {}
    assert facts["counts"]["genre_known"] + facts["counts"]["genre_mapped"] + facts["counts"]["genre_missing"] == 192
