"""SOURCE to audio files: the same facts from a folder and from a bucket."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from pathlib import Path

import pytest

from cluster.storage import files, s3
from cluster.storage.listing import facts, list_audio
from cluster.storage.listing.facts import HIDDEN, NO_EXTENSION, NOT_A_FILE, Survey
from cluster.storage.selection import ALL, Selection
from cluster.storage.uri import Uri
from mgc.errors import StorageError
from tests.support.object_store import ObjectStore

MUSIC = [
    "Album #1/01 50% off?.MP3",
    "Album #1/02 &=+;'\"@:.flac",
    "Album #1/ä/deep/03.ogg",
    "Album/04 日本.m4a",
    "Album-2/05.opus",
    "Album.mp3",
    "empty.wav",
    "with%20percent.aiff",
    "zz  two spaces .wma",
]
OTHER = [
    "Album/cover.JPG",
    "Album/folder.jpg",
    "Album/notes.txt",
    "README",
    ".hidden.mp3",
    ".trash/a.mp3",
    ".trash/b/c.mp3",
]
PASSED_OVER = Counter({".jpg": 2, ".txt": 1, NO_EXTENSION: 1, HIDDEN: 2})


def fill(base: str) -> str:
    for name in (*MUSIC, *OTHER):
        files.write_bytes(Uri.parse(f"{base}/my music/{name}"), b"" if name == "empty.wav" else name.encode())
    return f"{base}/my music"


def ids(source: str, survey: Survey | None = None, selection: Selection = ALL) -> list[str]:
    return [fact.track_id for fact in list_audio(Uri.parse(source), survey, selection)]


class TestEverywhere:
    def test_a_folder(self, base: str) -> None:
        source, survey = fill(base), Survey()
        facts = list(list_audio(Uri.parse(source), survey))
        assert [fact.track_id for fact in facts] == sorted(MUSIC)
        assert [fact.uri for fact in facts] == [f"{source}/{fact.track_id}" for fact in facts]
        sizes = {fact.track_id: fact.size_bytes for fact in facts}
        assert sizes == {name: 0 if name == "empty.wav" else len(name.encode()) for name in MUSIC}
        assert all(files.read_bytes(Uri.parse(fact.uri)) == fact.track_id.encode() for fact in facts if fact.size_bytes)
        assert all(fact.content_tag and '"' not in fact.content_tag for fact in facts)
        assert survey == Survey(PASSED_OVER, [], 1)

    def test_with_a_slash_and_again_it_is_the_same(self, base: str) -> None:
        source = fill(base)
        assert list(list_audio(Uri.parse(source))) == list(list_audio(Uri.parse(source + "/")))

    def test_the_tag_changes_with_the_bytes(self, base: str) -> None:
        uri = f"{base}/a.mp3"
        files.write_bytes(Uri.parse(uri), b"one")
        (before,) = list_audio(Uri.parse(base))
        (same,) = list_audio(Uri.parse(base))
        files.write_bytes(Uri.parse(uri), b"two")
        (after,) = list_audio(Uri.parse(base))
        assert before == same
        assert before.content_tag != after.content_tag

    def test_a_single_file(self, base: str) -> None:
        source = fill(base)
        one = f"{source}/Album #1/01 50% off?.MP3"
        (fact,) = list_audio(Uri.parse(one))
        (same,) = (other for other in list_audio(Uri.parse(source)) if other.uri == one)
        assert fact.track_id == "01 50% off?.MP3"
        assert (fact.uri, fact.size_bytes, fact.content_tag) == (same.uri, same.size_bytes, same.content_tag)

    def test_a_single_file_that_is_no_audio(self, base: str) -> None:
        survey = Survey()
        assert ids(f"{fill(base)}/Album/cover.JPG", survey) == []
        assert survey.passed_over == {".jpg": 1}

    def test_a_folder_is_not_a_prefix_of_names(self, base: str) -> None:
        assert ids(f"{fill(base)}/Album") == ["04 日本.m4a"]

    def test_nothing_there(self, base: str) -> None:
        with pytest.raises(
            StorageError, match=r"^cannot list \S+/none: (nothing|no object) is there; check the \w+\.$"
        ):
            ids(f"{base}/none")

    def test_an_empty_place_has_no_tracks(self, base: str) -> None:
        assert ids(base) == []


@pytest.mark.cluster
class TestS3:
    def test_pages(self, bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "PAGE_KEYS", 4)
        assert ids(fill(bucket_uri)) == sorted(MUSIC)

    def test_folder_markers_are_neither_tracks_nor_passed_over(self, bucket_uri: str) -> None:
        files.write_bytes(Uri.parse(f"{bucket_uri}/music/a.mp3"), b"x")
        client, bucket = s3.client(bucket_uri), Uri.parse(bucket_uri).bucket
        for marker in ("music/", "music/empty/", "music/empty.mp3/", "lonely/"):
            client.put_object(Bucket=bucket, Key=marker, Body=b"")
        survey = Survey()
        assert ids(f"{bucket_uri}/music", survey) == ["a.mp3"]
        assert ids(f"{bucket_uri}/lonely", survey) == []
        assert survey == Survey()

    def test_keys_with_empty_parts(self, bucket_uri: str) -> None:
        s3.client(bucket_uri).put_object(Bucket=Uri.parse(bucket_uri).bucket, Key="music//a.mp3", Body=b"x")
        (fact,) = list_audio(Uri.parse(f"{bucket_uri}/music"))
        assert (fact.track_id, files.read_bytes(Uri.parse(fact.uri))) == ("/a.mp3", b"x")

    def test_missing_bucket(self, s3_environment: ObjectStore) -> None:
        with pytest.raises(StorageError, match=r"^cannot list s3://no-such-bucket-here/x: the bucket does not exist"):
            ids("s3://no-such-bucket-here/x")

    def test_wrong_secret(self, bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-wrong-secret")
        with pytest.raises(StorageError, match=rf"^cannot list {bucket_uri}: the store refuses the credentials"):
            ids(bucket_uri)


class TestLocal:
    def test_relative_and_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "music").mkdir()
        (tmp_path / "music" / "a.mp3").write_bytes(b"x")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        for source in ("music", "./music/a.mp3", "~/music", f"file://{tmp_path}/music"):
            assert [fact.uri for fact in list_audio(Uri.parse(source))] == [f"{tmp_path}/music/a.mp3"]

    def test_names_that_are_not_utf8(self, tmp_path: Path) -> None:
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfcber"))
        folder.mkdir()
        Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp3")).write_bytes(b"x")
        (folder / "plain.mp3").write_bytes(b"y")
        facts = list(list_audio(Uri.of_path(tmp_path)))
        assert [fact.track_id for fact in facts] == ["\\xfcber/caf\\xe9.mp3", "\\xfcber/plain.mp3"]
        assert [files.read_bytes(Uri.parse(fact.uri)) for fact in facts] == [b"x", b"y"]
        for fact in facts:
            fact.uri.encode()
            assert next(list_audio(Uri.parse(fact.uri))).content_tag == fact.content_tag

    def test_links(self, tmp_path: Path) -> None:
        music, outside = tmp_path / "music", tmp_path / "outside"
        (music / "a").mkdir(parents=True)
        (outside / "b").mkdir(parents=True)
        for path in (music / "a" / "1.mp3", outside / "2.mp3", outside / "b" / "3.mp3"):
            path.write_bytes(b"x")
        (music / "a" / "round").symlink_to(music)
        (music / "up").symlink_to(tmp_path)
        (music / "self").symlink_to("self")
        (music / "nowhere.mp3").symlink_to("gone.mp3")
        (music / "inside").symlink_to("a")
        (music / "one.mp3").symlink_to(outside / "2.mp3")
        (music / "out").symlink_to(outside)
        (music / "out again").symlink_to(outside)
        (outside / "b" / "back").symlink_to(outside)
        survey = Survey()
        assert ids(str(music), survey) == ["a/1.mp3", "one.mp3", "out again/2.mp3", "out again/b/3.mp3"]
        # round, up, self, nowhere, inside, out, back
        assert survey.passed_over == {NOT_A_FILE: 7}
        # SOURCE itself may be a link, as a folder of music on another disk often is.
        (tmp_path / "entry").symlink_to(music)
        assert ids(str(tmp_path / "entry")) == ids(str(music))

    def test_pipes_and_sockets_are_not_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        os.mkfifo("pipe.mp3")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as plug:
            plug.bind("socket.mp3")
        survey = Survey()
        assert ids(".", survey) == []
        assert survey.passed_over == {NOT_A_FILE: 2}
        with pytest.raises(StorageError, match="it is neither a folder nor a file"):
            ids("pipe.mp3")

    def test_order_is_that_of_track_ids_whatever_the_names(self, tmp_path: Path) -> None:
        names = [
            "a.mp3",
            "a/b.mp3",
            "a b/c.mp3",
            "a-b.mp3",
            "a0.mp3",
            "A/z.mp3",
            "é.mp3",
            "z/é/1.mp3",
            "\U0001f3b5.mp3",
        ]
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        assert ids(str(tmp_path)) == sorted(names)
        assert sorted(names) == sorted(names, key=str.encode)

    def test_content_tag_is_time_and_size(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp3"
        path.write_bytes(b"four")
        os.utime(path, ns=(0, 0x1234_5678_9ABC))
        (fact,) = list_audio(Uri.of_path(path))
        assert fact.content_tag == "123456789abc-4"
        assert facts.content_tag(path.stat()) == fact.content_tag
