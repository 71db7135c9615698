"""`mgc catalog --corpus`: what a corpus's own files tell, joined with the files that lie in SOURCE."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cluster.storage.listing import list_audio
from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog
from mgc import schema
from mgc.audio.decode import decode
from mgc.audio.excerpts import ListeningPlan
from mgc.datasets import fma, folder, gtzan, jamendo
from pipelines.catalog import command
from pipelines.command.job import run
from tests.support.fma_files import Row, genres_csv, tracks_csv


def job(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run(command, [str(each) for each in arguments]) == code
    printed = capsys.readouterr()
    return {**json.loads(printed.out.splitlines()[-1]), "stderr": printed.err}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    """The one line that a refusal is, behind the progress bar's."""
    lines: list[str] = job(capsys, *arguments, code=code)["stderr"].splitlines()
    assert [line.startswith("listing: ") for line in lines[:-1]] == [True] * (len(lines) - 1)
    return lines[-1]


def audio(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def rows(target: Path) -> dict[str, dict[str, Any]]:
    return {row["track_id"]: row for row in load_catalog(read_catalog(Uri.of_path(target))).to_pylist()}


class TestFma:
    @pytest.fixture
    def metadata(self, tmp_path: Path) -> Path:
        tracks = [
            Row(2, "Hip-Hop", (21,), 1, 1, "training", "small"),
            Row(5, "Rock", (12, 25), 2, 3, "test", "medium"),
            Row(98567, "Rock", (12,), 3, 4, "validation", "small"),
            Row(1001, None, (), 4, -1, "training", "large"),
            Row(7, "Rock", (12,), 5, 5, "training", "small"),
        ]
        (tmp_path / "fma_metadata").mkdir()
        (tmp_path / "fma_metadata/tracks.csv").write_bytes(tracks_csv(tracks))
        (tmp_path / "fma_metadata/genres.csv").write_bytes(genres_csv())
        return tmp_path / "fma_metadata"

    @pytest.fixture
    def music(self, tmp_path: Path) -> Path:
        names = ("000/000002.mp3", "000/000005.mp3", "001/001001.mp3", "098/098567.mp3", "999/999999.mp3", "checksums")
        return audio(tmp_path / "fma_large", *names)

    def test_everything_is_counted(
        self, music: Path, metadata: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "c.parquet"
        facts = job(capsys, music, "--corpus", "fma", "--metadata", metadata / "tracks.csv", "--out", target)
        counts = {"tracks": 5, "known": 4, "unknown": 1, "missing": 1, "faulty": 1, "passed_over": 1}
        assert {name: facts["counts"][name] for name in counts} == counts
        for line in ("4 tracks with metadata", "1 file without any", "1 track with metadata", "1 file .* broken"):
            assert re.search(line, facts["stderr"])
        found = rows(target)
        assert len(found) == 5
        assert found["000/000005.mp3"]["genre_top"] == "Rock"
        assert found["000/000005.mp3"]["genres"] == ["Rock", "Punk"]
        assert found["000/000005.mp3"]["split"] == "test"
        assert found["001/001001.mp3"]["genres"] is None
        assert found["001/001001.mp3"]["artist_id"] == "4"
        assert found["999/999999.mp3"]["artist_id"] is None
        assert found["098/098567.mp3"]["duration_seconds"] is None
        assert schema.notices_of(read_catalog(Uri.of_path(target)).schema) == (fma.NOTICE,)

    @pytest.mark.parametrize(
        ("subset", "tracks", "missing", "others", "faulty"),
        [("small", 2, 1, 2, 1), ("medium", 3, 1, 1, 1), ("full", 4, 1, 0, None)],
    )
    def test_a_subset(
        self,
        music: Path,
        metadata: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        subset: str,
        tracks: int,
        missing: int,
        others: int,
        faulty: int | None,
    ) -> None:
        target = tmp_path / "c.parquet"
        facts = job(
            capsys,
            music,
            "--corpus",
            "fma",
            "--metadata",
            metadata,
            "--subset",
            subset,
            "--out",
            target,
            "--split-by",
            "artist_id",
        )
        counts = facts["counts"]
        assert (counts["tracks"], counts["known"], counts["unknown"]) == (tracks, tracks, 1)
        assert (counts["missing"], counts["other_subsets"], counts.get("faulty")) == (missing, others, faulty)
        assert counts["bytes"] == sum(row["size_bytes"] for row in rows(target).values())
        assert re.search(r"\b1 files? ", facts["stderr"])
        short = rows(target)["098/098567.mp3"]
        assert short["duration_seconds"] == (200.0 if subset == "full" else 0.5)
        assert len(rows(target)) == tracks

    def test_genres_elsewhere_or_nowhere(
        self, music: Path, metadata: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        moved = (metadata / "genres.csv").rename(tmp_path / "g.csv")
        arguments = (music, "--corpus", "fma", "--metadata", metadata / "tracks.csv", "--out", tmp_path / "c.parquet")
        assert "genres.csv: " in refused(capsys, *arguments)
        assert job(capsys, *arguments, "--genres", moved)["counts"]["known"] == 4
        assert "not a whole number" not in refused(capsys, *arguments, "--genres", metadata / "tracks.csv")

    def test_a_source_one_folder_too_high(
        self, music: Path, metadata: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = refused(
            capsys,
            music.parent,
            "--corpus",
            "fma",
            "--metadata",
            metadata,
            "--subset",
            "small",
            "--out",
            tmp_path / "c",
        )
        assert re.search(r"\bsmall\b.*SOURCE", line)
        assert "'000/000002.mp3'" in line
        assert "'fma_large/000/000002.mp3'" in line

    def test_a_beginning_says_nothing_of_what_is_missing(
        self, music: Path, metadata: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ("--corpus", "fma", "--metadata", metadata, "--out", tmp_path / "c.parquet", "--limit", "2")
        assert "missing" not in job(capsys, music, *arguments)["counts"]
        assert job(capsys, music, *arguments, "--dry-run")["status"] == "dry_run"


def test_jamendo_by_folder_by_files_and_in_low_quality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = "\t".join(jamendo.HEADER)
    split = tmp_path / "split-0"
    for number, name in enumerate(("train", "validation", "test"), start=1):
        row = f"track_{number}\tartist_{number}\talbum_1\t0{number}/{number}.mp3\t60.0\tgenre---pop"
        for kind in ("genre", "top50tags"):
            audio(split, f"autotagging_{kind}-{name}.tsv")
            (split / f"autotagging_{kind}-{name}.tsv").write_text(f"{header}\n{row}\n")
    music = audio(tmp_path / "audio", "01/1.mp3", "02/2.mp3")
    low = audio(tmp_path / "low", "01/1.low.mp3", "02/2.low.mp3", "03/3.low.mp3")
    target = tmp_path / "c.parquet"
    whole = job(capsys, music, "--corpus", "jamendo", "--metadata", split, "--out", target)["counts"]
    assert (whole["known"], whole["unknown"], whole["missing"]) == (2, 0, 1)
    assert rows(target)["02/2.mp3"] | {"uri": "", "content_tag": ""} == {
        "track_id": "02/2.mp3",
        "uri": "",
        "size_bytes": 8,
        "content_tag": "",
        "genre_top": "pop",
        "genres": ["pop"],
        "artist_id": "artist_2",
        "album_id": "album_1",
        "split": "validation",
        "subset": None,
        "duration_seconds": 60.0,
    }
    files = [f"--metadata={split / f'autotagging_genre-{name}.tsv'}" for name in ("train", "test")]
    assert job(capsys, music, "--corpus", "jamendo", *files, "--out", target)["counts"]["unknown"] == 1
    assert job(capsys, low, "--corpus", "jamendo-low", "--metadata", split, "--out", target)["counts"]["known"] == 3
    line = refused(capsys, low, "--corpus", "jamendo", "--metadata", split, "--out", target)
    assert re.search("'01/1.mp3'.*'01/1.low.mp3'", line)
    assert "no autotagging_genre-train.tsv" in refused(
        capsys, music, "--corpus", "jamendo", "--metadata", music, "--out", target
    )


@pytest.mark.parametrize("extension", ["wav", "au", "mp3"])
def test_gtzan(extension: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("blues/blues.00000", "jazz/jazz.00054", "blues/blues.00012")
    music = audio(tmp_path / "genres", *(f"{name}.{extension}" for name in names), f"blues/other.{extension}")
    audio(music, f"blues/._blues.00000.{extension}", "bextract_single.mf")
    facts = job(capsys, music, "--corpus", "gtzan", "--out", tmp_path / "c")
    counts = {"tracks": 4, "known": 3, "unknown": 1, "missing": 997, "faulty": 1, "passed_over": 2}
    assert {name: facts["counts"][name] for name in counts} == counts
    found = rows(tmp_path / "c/catalog.parquet")
    assert found[f"jazz/jazz.00054.{extension}"]["split"] == "train"
    assert found[f"blues/blues.00012.{extension}"]["split"] == "test"
    assert found[f"blues/blues.00012.{extension}"]["genre_top"] == "blues"
    assert schema.notices_of(read_catalog(Uri.of_path(tmp_path / "c")).schema) == (gtzan.NOTICE,)


def test_a_folder_of_genres(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music = audio(tmp_path / "music", "Rock/x/1.mp3", "Jazz/2.flac", "loose.mp3")
    arguments = (music, "--corpus", "folder", "--out", tmp_path / "c", "--split-by", "track_id", "--notice", "Mine.")
    facts = job(capsys, *arguments)
    assert (facts["counts"]["known"], facts["counts"]["unknown"]) == (2, 1)
    assert "missing" not in facts["counts"]
    found = rows(tmp_path / "c/catalog.parquet")
    assert {path: row["genre_top"] for path, row in found.items()} == {
        "Jazz/2.flac": "Jazz",
        "Rock/x/1.mp3": "Rock",
        "loose.mp3": None,
    }
    assert all(row["split"] for row in found.values())
    assert schema.notices_of(read_catalog(Uri.of_path(tmp_path / "c")).schema) == ("Mine.", folder.NOTICE)


def test_a_table_of_ones_own_is_counted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music = audio(tmp_path / "music", "1.mp3", "2.mp3", "3.mp3")
    (tmp_path / "m.csv").write_text("file,genre_top\n1.mp3,Rock\n2.mp3,Jazz\n9.mp3,Jazz\n8.mp3,Jazz\n")
    facts = job(capsys, music, "--metadata", tmp_path / "m.csv", "--column", "track_id=file", "--out", tmp_path / "c")
    assert {name: facts["counts"][name] for name in ("known", "unknown", "missing")} == {
        "known": 2,
        "unknown": 1,
        "missing": 2,
    }
    (tmp_path / "m.csv").write_text("track_id,duration_seconds\n1.mp3,long\n")
    (tmp_path / "s.csv").write_text("track_id;genre_top\n1.mp3;Rock, hard\n")
    assert "s.csv: cannot be read as CSV (semicolons" in refused(
        capsys, music, "--metadata", tmp_path / "s.csv", "--out", tmp_path / "c"
    )
    assert "duration_seconds" in refused(capsys, music, "--metadata", tmp_path / "m.csv", "--out", tmp_path / "c")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--corpus", "fma"], "--corpus fma needs --metadata"),
        (["--corpus", "jamendo"], "--corpus jamendo needs --metadata"),
        (["--corpus", "gtzan", "--metadata", "m.csv"], "takes the genre from the path and reads no --metadata"),
        (["--corpus", "folder", "--subset", "small"], "--genres and --subset go with --corpus fma"),
        (["--genres", "g.csv"], "--genres and --subset go with --corpus fma"),
        (["--corpus", "fma", "--metadata", "a", "--metadata", "b"], "--corpus fma takes one --metadata"),
        (["--metadata", "a.csv", "--metadata", "b.csv"], "--metadata takes one file"),
        (["--corpus", "jamendo", "--metadata", "a", "--column", "track_id=b"], "--column"),
        (["--corpus", "spotify"], "spotify"),
        (["--corpus", "fma", "--metadata", "a", "--subset", "huge"], "huge"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, tmp_path, "--out", tmp_path / "c", *arguments, code=2)


def test_au_is_listed_and_decoded(tmp_path: Path) -> None:
    """GTZAN as it was first given out: 16-bit AU, big-endian."""
    tone = 0.5 * np.sin(np.arange(2 * 22_050) * 0.1)
    soundfile.write(tmp_path / "blues.00000.au", tone, 22_050, format="AU", subtype="PCM_16")
    (fact,) = list_audio(Uri.of_path(tmp_path))
    heard = decode(Path(fact.uri).read_bytes(), ListeningPlan())
    assert (heard.decoder, heard.damage, heard.duration_seconds) == ("soundfile", None, 2.0)
    np.testing.assert_allclose(heard.windows[0].samples, tone, atol=1e-4)


def test_the_real_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Path(os.environ.get("MGC_TEST_DATA") or "unset")
    if not (data / "fma/genres.csv").is_file() or not (data / "jamendo").is_dir():
        pytest.skip("MGC_TEST_DATA names no folder with fma/genres.csv and jamendo/*.tsv")
    tracks = [Row(2, "Hip-Hop", (21,), 1), Row(5, "Classical", (659, 5), 2), Row(10, "Pop", (76, 10), 3)]
    (tmp_path / "tracks.csv").write_bytes(tracks_csv(tracks))
    music = audio(tmp_path / "fma_small", "000/000002.mp3", "000/000005.mp3", "000/000010.mp3")
    arguments = ("--corpus", "fma", "--metadata", tmp_path / "tracks.csv", "--genres", data / "fma/genres.csv")
    assert job(capsys, music, *arguments, "--out", tmp_path / "c")["counts"]["known"] == 3
    found = rows(tmp_path / "c/catalog.parquet")
    assert found["000/000010.mp3"]["genres"] == ["Experimental Pop", "Pop"]
    low = audio(tmp_path / "audio", "14/214.low.mp3", "15/215.low.mp3")
    arguments = ("--corpus", "jamendo-low", "--metadata", data / "jamendo", "--out", tmp_path / "j.parquet")
    facts = job(capsys, low, *arguments)
    assert (facts["counts"]["known"], facts["counts"]["missing"]) == (2, 55_092)
    assert rows(tmp_path / "j.parquet")["14/214.low.mp3"]["genre_top"] == "punkrock"
