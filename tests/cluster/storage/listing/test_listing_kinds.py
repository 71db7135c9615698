"""Which files are tracks: extensions, first bytes, names, patterns, unreadable folders; keys between two others."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.storage import files
from cluster.storage.listing import first_bytes, list_audio
from cluster.storage.listing.extensions import AUDIO_EXTENSIONS, extension_of
from cluster.storage.listing.facts import (
    EXCLUDED,
    MOST_NAMES,
    MOST_UNREADABLE,
    NO_EXTENSION,
    NOT_A_FILE,
    NOT_INCLUDED,
    OTHER,
    Survey,
    Unseen,
)
from cluster.storage.listing.key_order import between
from cluster.storage.listing.local import shown
from cluster.storage.selection import ALL, Selection
from cluster.storage.uri import Uri
from mgc.audio.decoders import ffmpeg
from mgc.errors import StorageError
from tests.support.draws import draws
from tests.support.fault_proxy import Fault, Faults, Proxy
from tests.support.good_files import GoodFile, good_files

NO_AUDIO = {"avif", "heic", "heif", "ism", "mj2", "mks"}
"""Pictures, playlists, films without sound and subtitles, in containers that may hold audio."""


def audio(extension: str) -> bytes:
    return next(file.data for file in good_files() if file.extension == extension)


def listed(source: str, selection: Selection = ALL) -> tuple[list[str], Survey]:
    survey = Survey()
    return [fact.track_id for fact in list_audio(Uri.parse(source), survey, selection)], survey


class TestExtensions:
    def test_all_of_the_containers_that_ffmpeg_may_open(self) -> None:
        known = {
            extension
            for name in ffmpeg._CONTAINERS.split(",")
            for extension in av.format.ContainerFormat(name, "r").extensions
        }
        assert {f".{name}" for name in known - NO_AUDIO} - AUDIO_EXTENSIONS == set()

    @pytest.mark.parametrize(
        "name",
        [
            "wv",
            "ape",
            "dsf",
            "mka",
            "mp2",
            "m4b",
            "webm",
            "mp4",
            "spx",
            "caf",
            "aifc",
            "wave",
            "mpc",
            "tta",
            "tak",
            "voc",
            "w64",
            "amr",
            "ac3",
            "dts",
        ],
    )
    def test_of_formats_without_a_list(self, name: str) -> None:
        assert f".{name}" in AUDIO_EXTENSIONS

    @pytest.mark.parametrize(
        ("name", "extension"),
        [
            ("a.MP3", ".mp3"),
            ("a.tar.gz", ".gz"),
            ("Symphony No.5", ""),
            ("Mr. Smith", ""),
            ("01. Intro", ""),
            ("Intro", ""),
            (".hidden", ""),
            ("a.", ""),
            ("part.001", ""),
            ("a.mp+", ".mp+"),
            ("a.crdownload", ".crdownload"),
        ],
    )
    def test_of_a_name(self, name: str, extension: str) -> None:
        assert extension_of(name) == extension


class TestFirstBytes:
    @pytest.mark.parametrize("file", good_files(), ids=lambda file: file.name)
    def test_audio_of_every_kind_begins_like_audio(self, file: GoodFile) -> None:
        data = file.data
        assert first_bytes.begins_like_audio(data[: first_bytes.HEAD_BYTES])
        # A tag with a picture may be longer than what is read.
        tagged = b"ID3\x04\x00\x00\x00\x01\x00\x00" + bytes(1 << 14)
        assert first_bytes.begins_like_audio((tagged + data)[: first_bytes.HEAD_BYTES])

    @pytest.mark.parametrize(
        "data",
        [
            b"MAC OS users: see INSTALL\n" * 40,
            b"fLaC is a format\n",
            b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 20,
            b"SQLite format 3\x00" + bytes(4000),
            b"\x89PNG\r\n\x1a\n" + random.Random(0).randbytes(9000),
            bytes(9000),
            b"\xff" * 9000,
        ],
        ids=["text", "name of a format", "program", "database", "picture", "zeros", "ones"],
    )
    def test_other_files_do_not(self, data: bytes) -> None:
        assert not first_bytes.begins_like_audio(data)

    @given(data=st.binary(max_size=600))
    def test_any_bytes_are_judged(self, data: bytes) -> None:
        assert first_bytes.begins_like_audio(data) in (True, False)

    def test_files_without_an_extension_in_every_store(self, base: str) -> None:
        kinds = {"song": audio(".mp3"), "Op. 5/No.5": audio(".flac"), "README": b"plain text", "void": b""}
        for name, data in (kinds | {"a.txt": audio(".mp3")}).items():
            files.write_bytes(Uri.parse(f"{base}/music/{name}"), data)
        expected = Survey(Counter({NO_EXTENSION: 2, ".txt": 1}), [], 3)
        assert listed(f"{base}/music") == (["Op. 5/No.5", "song"], expected)
        assert listed(f"{base}/music/song") == (["song"], Survey(looked_at=1))
        assert listed(f"{base}/music/README") == ([], Survey(Counter({NO_EXTENSION: 1}), [], 1))


@pytest.mark.cluster
@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.ARCHIVED])
def test_a_refused_object_is_not_taken_for_gone(fault: Fault, bucket_uri: str, store_proxy: Proxy) -> None:
    for name in ("a.mp3", "song", "void"):
        files.write_bytes(Uri.parse(f"{bucket_uri}/music/{name}"), audio(".mp3") if name == "song" else b"")
    with store_proxy.armed(Faults((fault,), key="music/song")):
        expected = Survey(Counter({NO_EXTENSION: 1}), ["song"], 1)
        assert listed(f"{bucket_uri}/music") == (["a.mp3"], expected)


@pytest.mark.cluster
def test_an_answer_that_ends_early_is_asked_for_again(bucket_uri: str, store_proxy: Proxy) -> None:
    files.write_bytes(Uri.parse(f"{bucket_uri}/music/song"), audio(".mp3"))
    with store_proxy.armed(Faults((Fault.HALF_BODY,), key="music/song", nth={1, 2})):
        assert listed(f"{bucket_uri}/music") == (["song"], Survey(looked_at=1))
        asked = store_proxy.requests("GET", "music/song", Uri.parse(bucket_uri).bucket)
    assert [each.range for each in asked] == [f"bytes=0-{first_bytes.HEAD_BYTES - 1}"] * 3


class TestPatterns:
    NAMES = ("Jazz/a.mp3", "Jazz/cover.jpg", "Podcasts/1.mp3", "Podcasts/old/2.mp3", "b.wav", "c.mp3")

    @pytest.mark.parametrize(
        ("selection", "tracks", "passed_over"),
        [
            (Selection(exclude=("Podcasts",)), ["Jazz/a.mp3", "b.wav", "c.mp3"], {EXCLUDED: 1, ".jpg": 1}),
            (Selection(exclude=("*.wav", "Podcasts/old")), ["Jazz/a.mp3", "Podcasts/1.mp3", "c.mp3"],
             {EXCLUDED: 2, ".jpg": 1}),
            (Selection(("Jazz", "*.wav")), ["Jazz/a.mp3", "b.wav"], {".jpg": 1, NOT_INCLUDED: 3}),
            (Selection(("*.mp3",), ("Podcasts/*",)), ["Jazz/a.mp3", "c.mp3"], {EXCLUDED: 2, NOT_INCLUDED: 2}),
        ],
    )  # fmt: skip
    def test_in_every_store(
        self, selection: Selection, tracks: list[str], passed_over: dict[str, int], base: str
    ) -> None:
        for name in self.NAMES:
            files.write_bytes(Uri.parse(f"{base}/music/{name}"), b"x")
        assert listed(f"{base}/music", selection) == (tracks, Survey(Counter(passed_over)))

    def test_of_a_single_file(self, base: str) -> None:
        files.write_bytes(Uri.parse(f"{base}/a.mp3"), b"x")
        assert listed(f"{base}/a.mp3", Selection(exclude=("*.mp3",))) == ([], Survey(Counter({EXCLUDED: 1})))
        assert listed(f"{base}/a.mp3", Selection(("*.wav",))) == ([], Survey(Counter({NOT_INCLUDED: 1})))

    def test_an_excluded_folder_is_not_opened(self, common: Path) -> None:
        (common / "shut").mkdir(mode=0)
        (common / "a.mp3").touch()
        with as_ordinary_user():
            assert listed(str(common), Selection(exclude=("shut",))) == (["a.mp3"], Survey(Counter({EXCLUDED: 1})))


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may do everything: be nobody for a while."""
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)


class TestUnreadable:
    def test_a_folder_is_said_and_the_others_are_listed(self, common: Path) -> None:
        for name in ("a/1.mp3", "shut/deep/2.mp3", "z/3.mp3", "z/blind/4.mp3"):
            (common / name).parent.mkdir(parents=True, exist_ok=True)
            (common / name).touch()
        (common / "shut").chmod(0)
        # Its names can be read, but nothing about them.
        (common / "z/blind").chmod(0o744)
        (common / "secret").write_bytes(b"x")
        (common / "secret").chmod(0)
        with as_ordinary_user():
            tracks, survey = listed(str(common))
        assert tracks == ["a/1.mp3", "z/3.mp3"]
        assert sorted(survey.unreadable) == ["secret", "shut", "z/blind"]

    @pytest.mark.parametrize("mode", [0, 0o744])
    def test_source_itself_ends_the_listing(self, mode: int, common: Path) -> None:
        (common / "music").mkdir()
        (common / "music/a.mp3").touch()
        (common / "music").chmod(mode)
        with as_ordinary_user(), pytest.raises(StorageError, match=r"^cannot list \S+: permission is denied"):
            listed(f"{common}/music")

    def test_a_disk_that_does_not_answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its mount point is there, and fails as soon as it is looked up."""
        for name in ("a.mp3", "disk/1.mp3"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "link").symlink_to("nowhere")
        scan = os.scandir

        class Entry:
            def __init__(self, entry: os.DirEntry[str]) -> None:
                self._entry = entry

            def __getattr__(self, name: str) -> object:
                return getattr(self._entry, name)

            def stat(self) -> os.stat_result:
                if self._entry.name == "disk":
                    raise OSError(errno.ESTALE, "Stale file handle")
                return self._entry.stat()

        @contextlib.contextmanager
        def stale(path: str) -> Iterator[Iterator[Entry]]:
            with scan(path) as entries:
                yield map(Entry, entries)

        monkeypatch.setattr(os, "scandir", stale)
        assert listed(str(tmp_path)) == (["a.mp3"], Survey(Counter({NOT_A_FILE: 1}), ["disk"]))

    def test_which_tracks_are_unseen(self) -> None:
        unseen = Unseen(["shut", "a/b", "one.mp3"])
        ids = ["shut/1.mp3", "shut/deep/2.mp3", "shut.mp3", "shutter/1.mp3", "a/b/c", "a/bc", "a/x/b/c", "one.mp3"]
        assert unseen.of(ids) == [True, True, False, False, True, False, False, True]
        assert Unseen([""]).of(["a", "b/c"]) == [True, True]
        assert not Unseen([])
        assert Unseen([]).of(["a"]) == [False]

    def test_too_many_places_are_all_of_source(self) -> None:
        survey = Survey()
        for number in range(MOST_UNREADABLE + 5):
            survey.miss(f"folder {number}")
            survey.pass_over(f".x{number}")
        assert survey.unreadable == [""]
        assert (len(survey.passed_over), survey.passed_over[OTHER]) == (MOST_NAMES + 1, 5)
        assert Survey.from_json(survey.to_json()) == survey


PIECES = st.sampled_from(
    [b"\\", b"x", b"e", b"4", b"5", b"c", b"\xe4", b"\xc3\xa4", b"\xff", b"\\xe4", b"\\x5c", b"\n", b" "]
)
FILE_NAMES = st.one_of(
    st.lists(PIECES, min_size=1, max_size=8).map(b"".join),
    st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"/", b"").replace(b"\0", b"") or b"a"),
)


class TestTrackIds:
    @given(name=FILE_NAMES)
    def test_the_bytes_can_be_read_from_the_id(self, name: bytes) -> None:
        """So no two names have the same id."""
        escape = re.compile(r"\\x([0-9a-f]{2})")
        track_id = shown(os.fsdecode(name))
        parts = escape.split(track_id)
        read = b"".join(bytes.fromhex(part) if place % 2 else part.encode() for place, part in enumerate(parts))
        assert read == name

    @given(name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
    def test_ordinary_names_stay_as_they_are(self, name: str) -> None:
        if not re.search(r"\\x[0-9a-f]{2}", name):
            assert shown(name) == name

    @given(names=st.sets(FILE_NAMES, min_size=1, max_size=12))
    def test_a_folder_of_any_names(self, names: set[bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            kept = {name + b".mp3" for name in names if not name.startswith(b".")}
            for name in kept:
                Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).touch()  # noqa: PTH118
            facts = list(list_audio(Uri.parse(folder)))
            ids = [fact.track_id for fact in facts]
            assert len(set(ids)) == len(kept)
            assert ids == sorted(ids)
            found = {os.path.basename(os.fsencode(Uri.parse(fact.uri).path)) for fact in facts}  # noqa: PTH119
            assert found == kept


@pytest.mark.draws
@settings(max_examples=draws(100))
@given(low=st.text(max_size=6), high=st.text(max_size=6), usual=st.sets(st.characters(codec="utf-8"), max_size=5))
def test_between(low: str, high: str, usual: set[str]) -> None:
    middle = between(low, high, usual)
    if middle is not None:
        assert low < middle < high
        assert low.encode() < middle.encode() < high.encode()


def test_between_digits_there_are_digits() -> None:
    assert between("track_0012.mp3", "track_9", {*"track_0123456789.mp3"}) == "track_5"
    assert between("track_0012.mp3", "track_1", {*"track_0123456789.mp3"}) == "track_05"
    assert between("", chr(0x10FFFF)) == "\x7f"
    assert between("é", "é") is None
    assert between("b", "a") is None
