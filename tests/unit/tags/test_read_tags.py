"""What files of every format say in their tags, and how few bytes it takes to read it."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen import id3
from mutagen.asf import ASF, ASFByteArrayAttribute
from mutagen.flac import FLAC, Picture
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggvorbis import OggVorbis

from mgc.audio.source import Held
from mgc.tags.reader import BLOCK_BYTES, MOST_READ_BYTES, MOST_VALUES, SourceStream, clean
from mgc.tags.tags import Tags, read_tags
from tests.damage.junk import id3_tag
from tests.support.damage import DAMAGES, damaged_file
from tests.support.draws import draws
from tests.support.good_files import good_files
from tests.unit.tags.tagged_files import (
    SAID,
    WRITERS,
    Counted,
    Texts,
    id3_tags,
    plain_file,
    said,
    with_ape,
    with_id3,
    with_id3v1,
)

PICTURE_BYTES = 10_000_000


EXTENSIONS = {
    "FLAC": ".flac",
    "Ogg Vorbis": ".ogg",
    "Opus": ".opus",
    "M4A": ".m4a",
    "WAV": ".wav",
    "AIFF": ".aiff",
    "WMA": ".wma",
}
"""Extensions of files by the kind of tag; all others are MP3."""


_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(clean)
_ID = st.uuids().map(str)
_TEXTS = st.fixed_dictionaries(
    {"genre": st.lists(_TEXT, min_size=1, max_size=4)},
    optional={
        **{name: st.lists(_TEXT, min_size=1, max_size=2) for name in ("artist", "album_artist", "album", "title")},
        "date": st.integers(1000, 2999).map(lambda year: [str(year)]),
        **{name: _ID.map(lambda each: [each]) for name in SAID if name.startswith("musicbrainz")},
    },
)


@pytest.mark.parametrize("kind", WRITERS)
class TestRoundTrip:
    def test_all_fields(self, kind: str) -> None:
        assert said(WRITERS[kind](SAID), 8 * BLOCK_BYTES) == SAID

    @pytest.mark.draws
    @settings(max_examples=draws(25), deadline=None)
    @given(texts=_TEXTS)
    def test_any_texts(self, kind: str, texts: Texts) -> None:
        expected = {field: [clean(value) for value in values] for field, values in texts.items()}
        assert said(WRITERS[kind](texts)) == expected

    def test_ten_thousand_genres(self, kind: str) -> None:
        genres = [f"Genre {number}" for number in range(10_000)]
        tags = read_tags(Held(WRITERS[kind]({**SAID, "genre": genres})))
        # A container whose items are not cut does without the item.
        found = tags.fields.get("genre", [])
        assert found in (genres[:MOST_VALUES], [])
        assert kind == "M4A" or found
        assert tags.fields["artist"][0] == SAID["artist"][0]
        assert tags.read_bytes <= MOST_READ_BYTES

    @pytest.mark.draws
    @settings(max_examples=draws(30), deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), damage=st.sampled_from(sorted(DAMAGES)))
    def test_any_damage(self, kind: str, seed: int, damage: str) -> None:
        plain = next(file for file in good_files(0.5, 1.5) if file.extension == EXTENSIONS.get(kind, ".mp3"))
        file = replace(plain, data=WRITERS[kind](SAID))
        broken = damaged_file(damage, file, (file, *good_files(0.5, 1.5)), np.random.default_rng(seed))
        tags = read_tags(Held(broken.data))
        assert tags.read_bytes <= MOST_READ_BYTES
        assert all(clean(value) == value for values in tags.fields.values() for value in values)


@pytest.mark.parametrize("length", range(1, 60))
def test_the_head_of_an_ape_tag_is_no_id3v1_tag(length: int) -> None:
    """Of some length it begins with APE, and 128 bytes before the end with TAG."""
    texts = {"genre": ["x" * length]}
    assert said(WRITERS["APEv2"](texts)) == texts


def test_id3v1() -> None:
    texts = {"genre": ["Rock"], "artist": ["A" * 40], "album": ["Album"], "title": ["Tïtle"], "date": ["1987"]}
    expected = {**texts, "genre": ["17"], "artist": ["A" * 30]}
    found = said(with_id3v1(texts), 2 * BLOCK_BYTES)
    assert found == expected


def _frames(texts: Texts) -> bytes:
    """The frames of an ID3v2.4 tag."""
    stream = io.BytesIO()
    id3_tags(texts).save(stream, v1=0, padding=lambda _: 0)
    return stream.getvalue()[10:]


def _picture_frame(size_bytes: int) -> bytes:
    return b"APIC" + bytes(size_bytes >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(2) + bytes(size_bytes)


def _with_flac_picture(first: bool) -> bytes:
    stream = io.BytesIO(WRITERS["FLAC"](SAID))
    file, picture = FLAC(stream), Picture()
    picture.data = bytes(PICTURE_BYTES)
    file.metadata_blocks.insert(1 if first else len(file.metadata_blocks), picture)
    stream.seek(0)
    file.save(stream)
    return stream.getvalue()


def _with_mp4_picture() -> bytes:
    stream = io.BytesIO(WRITERS["M4A"](SAID))
    file = MP4(stream)
    file["covr"] = [MP4Cover(bytes(PICTURE_BYTES))]
    stream.seek(0)
    file.save(stream)
    return stream.getvalue()


def _with_asf_picture() -> bytes:
    stream = io.BytesIO(WRITERS["WMA"](SAID))
    file = ASF(stream)
    file["WM/Picture"] = [ASFByteArrayAttribute(bytes(PICTURE_BYTES))]
    stream.seek(0)
    file.save(stream)
    return stream.getvalue()


def _with_ogg_picture() -> bytes:
    stream = io.BytesIO(WRITERS["Ogg Vorbis"](SAID))
    file = OggVorbis(stream)
    file["METADATA_BLOCK_PICTURE"] = "A" * PICTURE_BYTES
    stream.seek(0)
    file.save(stream)
    return stream.getvalue()


def _with_ape_picture() -> bytes:
    items = with_ape(SAID)[len(plain_file(".mp3")) + 32 : -32]
    count = len(SAID) + 1
    picture = struct.pack("<II", PICTURE_BYTES, 0b010) + b"Cover Art (Front)\0" + bytes(PICTURE_BYTES)
    size = len(items) + len(picture) + 32
    footer = b"APETAGEX" + struct.pack("<IIII", 2000, size, count, 0) + bytes(8)
    return plain_file(".mp3") + picture + items + footer


PICTURES = {
    "MP3, picture behind": lambda: id3_tag(_frames(SAID) + _picture_frame(PICTURE_BYTES)) + plain_file(".mp3"),
    "MP3, picture in front": lambda: id3_tag(_picture_frame(PICTURE_BYTES) + _frames(SAID)) + plain_file(".mp3"),
    "MP3, padding": lambda: id3_tag(_frames(SAID) + bytes(PICTURE_BYTES)) + plain_file(".mp3"),
    "WAV behind 10 MB of samples": lambda: _long_wav(),
    "FLAC, picture in front": partial(_with_flac_picture, True),
    "FLAC, picture behind": partial(_with_flac_picture, False),
    "FLAC behind a picture in ID3": lambda: id3_tag(_picture_frame(PICTURE_BYTES)) + WRITERS["FLAC"](SAID),
    "M4A": _with_mp4_picture,
    "WMA": _with_asf_picture,
    "APEv2": _with_ape_picture,
}


def _long_wav() -> bytes:
    data = WRITERS["WAV"](SAID)
    place = data.index(b"data")
    size = int.from_bytes(data[place + 4 : place + 8], "little")
    longer = size + PICTURE_BYTES
    return data[: place + 4] + longer.to_bytes(4, "little") + bytes(PICTURE_BYTES) + data[place + 8 :]


@pytest.mark.parametrize("kind", PICTURES)
def test_ten_megabytes_of_picture_are_not_read(kind: str) -> None:
    data = PICTURES[kind]()
    assert len(data) > PICTURE_BYTES
    assert said(data, 8 * BLOCK_BYTES) == SAID


def test_a_picture_among_the_comments_of_ogg() -> None:
    assert said(_with_ogg_picture()) == SAID


class TestId3:
    def test_sizes_that_are_no_syncsafe_numbers(self) -> None:
        """As iTunes once wrote them."""
        body = b"".join(
            name + size.to_bytes(4, "big") + bytes(2) + b"\0" + letter * (size - 1)
            for name, size, letter in ((b"TALB", 200, b"x"), (b"TPE1", 300, b"y"), (b"TCON", 5, b"z"))
        )
        assert said(id3_tag(body)) == {"album": ["x" * 199], "artist": ["y" * 299], "genre": ["zzzz"]}

    def test_version_2(self) -> None:
        frames = {
            b"TT2": b"\0Title",
            b"TP1": b"\0Artist",
            b"TCO": b"\0(17)",
            b"TYE": b"\x001999",
            b"PIC": bytes(90_000),
        }
        body = b"".join(name + len(data).to_bytes(3, "big") + data for name, data in frames.items())
        tag = id3_tag(body)
        expected = {"title": ["Title"], "artist": ["Artist"], "genre": ["(17)"], "date": ["1999"]}
        assert said(tag[:3] + b"\x02" + tag[4:]) == expected

    @pytest.mark.parametrize("version", [3, 4])
    def test_unsynchronised(self, version: int) -> None:
        text = b"\x01" + "Größe ÿþ".encode("utf-16")
        safe = text.replace(b"\xff", b"\xff\0")
        size, flags = (len(text), bytes(2)) if version == 3 else (len(safe), b"\0\x02")
        tag = id3_tag(b"TALB" + size.to_bytes(4, "big") + flags + safe)
        assert said(tag[:3] + bytes((version, 0, 0x80)) + tag[6:]) == {"album": ["Größe ÿþ"]}

    @pytest.mark.parametrize(("version", "header"), [(3, b"\0\0\0\x06" + bytes(6)), (4, b"\0\0\0\x06\x01\0"), (4, b"")])
    def test_extended_header(self, version: int, header: bytes) -> None:
        """Some programs announce one and write none."""
        tag = id3_tag(header + b"TCON" + b"\0\0\0\x05" + bytes(2) + b"\0Rock")
        assert said(tag[:3] + bytes((version, 0, 0x40)) + tag[6:]) == {"genre": ["Rock"]}

    @pytest.mark.parametrize("claimed", [0, 10, 5000, 2**28 - 1])
    def test_a_size_that_lies(self, claimed: int) -> None:
        tags = read_tags(Held(id3_tag(_frames(SAID), claimed) + plain_file(".mp3")))
        assert tags.read_bytes <= MOST_READ_BYTES
        if claimed > len(_frames(SAID)):
            assert tags.fields == SAID

    def test_two_tags(self) -> None:
        first = id3_tag(_frames({"genre": ["Rock"]}))
        assert said(first + id3_tag(_frames({"genre": ["Jazz"], "artist": ["A"]}))) == {
            "genre": ["Rock"],
            "artist": ["A"],
        }

    def test_what_one_tag_lacks_another_knows(self) -> None:
        data = with_ape({"genre": ["Jazz"], "album": ["B"]}, with_id3v1({"artist": ["C"], "title": ["D"]})[-128:])
        found = said(id3_tag(_frames({"artist": ["A"]})) + data)
        assert found == {"artist": ["A"], "genre": ["Jazz"], "album": ["B"], "title": ["D"]}

    def test_frames_of_no_interest(self) -> None:
        frames = [id3.TXXX(encoding=3, desc=f"x{number}", text=["y" * 3000]) for number in range(20)]
        assert said(with_id3(4, None, SAID, frames)) == SAID


def test_texts_that_no_table_can_hold() -> None:
    assert clean(" a\ud800\nb\x07 ") == "a? b"
    half = "TITLE=a\ud800\tb\x07".encode("utf-8", "surrogatepass")
    comments = struct.pack("<III", 0, 1, len(half)) + half
    assert said(b"fLaC\x84" + len(comments).to_bytes(3, "big") + comments) == {"title": ["a\ufffd\ufffd\ufffd b"]}


def test_mojibake_is_text() -> None:
    cyrillic = "Рок".encode("cp1251").decode("latin-1")
    assert said(with_id3(4, None, {"genre": [cyrillic]})) == {"genre": [cyrillic]}


def test_info_of_riff() -> None:
    items = b"".join(
        name + len(text).to_bytes(4, "little") + text + bytes(len(text) % 2)
        for name, text in ((b"IGNR", b"Rock\0"), (b"IART", "Motörhead".encode("cp1252")), (b"ICRD", b"1980-11-08"))
    )
    chunk = b"LIST" + (len(items) + 4).to_bytes(4, "little") + b"INFO" + items
    data = plain_file(".wav")
    assert said(data[:12] + chunk + data[12:]) == {"genre": ["Rock"], "artist": ["Motörhead"], "date": ["1980-11-08"]}


def test_dsf() -> None:
    data = b"DSD " + struct.pack("<QQQ", 28, 0, 100_000) + bytes(100_000 - 28)
    assert said(data + id3_tag(_frames(SAID)), 4 * BLOCK_BYTES) == SAID


def test_a_reader_of_files_seeks_as_files_do() -> None:
    stream = SourceStream(Held(b"0123456789"))
    assert (stream.readable(), stream.seekable()) == (True, True)
    assert (stream.seek(-3, 2), stream.read(2), stream.tell(), stream.seek(-1, 1), stream.read(9)) == (
        7,
        b"78",
        9,
        8,
        b"89",
    )
    assert stream.read(1) == b""
    with pytest.raises(ValueError, match="before"):
        stream.seek(-1)


def test_what_was_read_is_not_read_again() -> None:
    source = Counted(WRITERS["ID3v2.4"](SAID))
    assert isinstance(read_tags(source), Tags)
    assert source.asked == 1
