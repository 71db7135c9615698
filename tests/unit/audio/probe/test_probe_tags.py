from __future__ import annotations

import io
import math
import random
import struct
import time
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.audio.probe import Probe, probe
from mgc.audio.probe.reader import BLOCK_BYTES, MAX_READS, BoundedReader
from mgc.audio.probe.tags import strip_tags
from mgc.audio.source import ByteRange, Held
from mgc.errors import AudioError, ErrorKind
from tests.support.draws import draws

AUDIO = b"\xff\xfb\x90\x64" + bytes(5000)


def id3v2(body_bytes: int, *, version: int = 4, footer: bool = False, announced: int | None = None) -> bytes:
    size = body_bytes if announced is None else announced
    sizes = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    head = bytes([version, 0, 0x10 * footer]) + sizes
    return b"ID3" + head + bytes(body_bytes) + (b"3DI" + head) * footer


def id3v2_behind(body_bytes: int) -> bytes:
    return id3v2(body_bytes, footer=True)


def ape(body_bytes: int, *, header: bool = True, footer: bool = True, announced: int | None = None) -> bytes:
    size = body_bytes + 32 * footer if announced is None else announced
    flags = header << 31 | (not footer) << 30

    def mark(is_header: bool) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII8x", 2000, size, 1, flags | is_header << 29)

    return mark(True) * header + bytes(body_bytes) + mark(False) * footer


def lyrics3(text: bytes, version: int = 2) -> bytes:
    if version == 1:
        return b"LYRICSBEGIN" + text + b"LYRICSEND"
    body = b"LYRICSBEGIN" + text
    return body + b"%06d" % len(body) + b"LYRICS200"


ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
ENHANCED = b"TAG+" + bytes(223)


def stripped(data: bytes) -> tuple[ByteRange, tuple[str, ...]]:
    return strip_tags(BoundedReader(Held(data)))


CASES = [
    (b"", b"", ()),
    (id3v2(300), b"", ("ID3v2",)),
    (id3v2(300, version=3), b"", ("ID3v2",)),
    (id3v2(300, footer=True), b"", ("ID3v2",)),
    (id3v2(300) + id3v2(0) + id3v2(200_000), b"", ("ID3v2",) * 3),
    (ape(100), b"", ("APEv2",)),
    (id3v2(20) + ape(100), b"", ("ID3v2", "APEv2")),
    (b"", ID3V1, ("ID3v1",)),
    (b"", ENHANCED + ID3V1, ("ID3v1",)),
    (b"", ape(100), ("APEv2",)),
    (b"", ape(100, header=False), ("APEv2",)),
    (b"", ape(200_000), ("APEv2",)),
    (b"", ape(100) + ID3V1, ("APEv2", "ID3v1")),
    (b"", lyrics3(b"la la"), ("Lyrics3",)),
    (b"", lyrics3(b"la la", version=1), ("Lyrics3",)),
    (b"", lyrics3(b"la" * 2500, version=1) + ID3V1, ("Lyrics3", "ID3v1")),
    (b"", lyrics3(b"la" * 40_000) + ID3V1, ("Lyrics3", "ID3v1")),
    (b"", id3v2_behind(400), ("ID3v2",)),
    (b"", id3v2_behind(400) + ape(50) + lyrics3(b"la") + ID3V1, ("ID3v2", "APEv2", "Lyrics3", "ID3v1")),
    (id3v2(9000), ape(50) + ENHANCED + ID3V1, ("ID3v2", "APEv2", "ID3v1")),
]


@pytest.mark.parametrize(("before", "behind", "names"), CASES)
def test_tags_around_the_audio(before: bytes, behind: bytes, names: tuple[str, ...]) -> None:
    data = before + AUDIO + behind
    assert stripped(data) == ((len(before), len(before) + len(AUDIO)), names)


def test_a_footer_that_old_versions_do_not_have() -> None:
    tag = bytearray(id3v2(300, version=3))
    tag[5] |= 0x10
    assert stripped(bytes(tag) + AUDIO)[0].start == len(tag)


def test_apetagex_is_no_id3v1() -> None:
    # The mark of an APE header of 131 bytes before the end: its letters TAG stand where an ID3v1 tag begins.
    data = AUDIO + ape(67)
    assert data[-128:-125] == b"TAG"
    assert stripped(data) == ((0, len(AUDIO)), ("APEv2",))


@pytest.mark.parametrize(
    ("data", "audio", "names"),
    [
        (id3v2(50, announced=1 << 27) + AUDIO, (10, 60 + len(AUDIO)), ("ID3v2",)),
        (b"ID3\x04\0\0\xff\xff\xff\xff" + AUDIO, (0, 10 + len(AUDIO)), ()),
        (b"ID3\xff\xff\0\0\0\0\0" + AUDIO, (0, 10 + len(AUDIO)), ()),
        (AUDIO + ape(50, announced=1 << 31), (0, len(AUDIO) + 82), ("APEv2",)),
        (AUDIO + ape(50, announced=3), (0, len(AUDIO) + 82), ("APEv2",)),
        (AUDIO + b"LYRICSBEGINla999999LYRICS200", (0, len(AUDIO) + 13), ("Lyrics3",)),
        (AUDIO + b"000000LYRICSEND", (0, len(AUDIO) + 6), ("Lyrics3",)),
        (id3v2(0), (10, 10), ("ID3v2",)),
        (ID3V1, (0, 0), ("ID3v1",)),
    ],
)
def test_sizes_that_lie(data: bytes, audio: tuple[int, int], names: tuple[str, ...]) -> None:
    # An APE header and footer: the header's 32 bytes, the body, and the footer, which alone is taken off.
    assert stripped(data) == (audio, names)


def test_tags_without_end_are_given_up() -> None:
    data = id3v2(0) * 10_000 + AUDIO + ID3V1 * 10_000
    audio, names = stripped(data)
    assert names == ("ID3v2",) * 8 + ("ID3v1",) * 8
    assert audio == (80, len(data) - 8 * 128)


class Counting:
    """A file that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size_bytes, self.reads, self.read_bytes = data, len(data), 0, 0

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        parts = []
        for start, stop in ranges:
            assert 0 <= start <= stop
            parts.append(self.data[start:stop])
            self.reads += 1
            self.read_bytes += len(parts[-1])
        return parts


def test_a_tag_of_ten_megabytes_is_not_read(make_file: Callable[..., bytes]) -> None:
    for kind, container in (("mp3", "mp3"), ("mp3_uncounted", "mp3"), ("flac", "flac"), ("aac", "aac")):
        tag = id3v2(10_000_000)
        source = Counting(tag + make_file(kind) + ape(400_000) + ID3V1)
        found = probe(source)
        # FFmpeg writes a small tag of its own before MP3.
        own = ("ID3v2",) * make_file(kind).startswith(b"ID3")
        assert (found.container, found.tags) == (container, ("ID3v2", *own, "APEv2", "ID3v1"))
        assert len(tag) <= found.audio.start < len(tag) + 2000
        assert found.audio.stop == len(source.data) - 128 - 400_064
        assert found.duration_seconds == pytest.approx(8.0, abs=0.2)
        assert source.reads <= 8
        assert source.read_bytes <= 5 * BLOCK_BYTES


def test_audio_is_found_behind_zeros(make_file: Callable[..., bytes]) -> None:
    for kind, container in (("mp3", "mp3"), ("aac", "aac")):
        data = bytes(100_000) + make_file(kind)
        found = probe(Held(data))
        assert found.container == container
        assert found.audio.start >= 100_000 - 2000


def test_only_tags_are_no_audio() -> None:
    for data in (id3v2(2000), id3v2(100) + ID3V1, ape(100)):
        with pytest.raises(AudioError) as refusal:
            probe(Held(data))
        assert refusal.value.kind is ErrorKind.NOT_AUDIO


KINDS = ["mp3", "mp3_uncounted", "ogg", "flac", "wav", "aiff", "m4a", "alac", "aac", "wma", "wav_u8", "webm"]
SOUNDFILE_KINDS = [("RF64", "PCM_16"), ("W64", "PCM_16"), ("CAF", "ALAC_16"), ("AU", "PCM_16"), ("WAV", "MS_ADPCM")]


@pytest.fixture(scope="module")
def whole_files(make_file: Callable[..., bytes]) -> list[bytes]:
    return [make_file(kind, seconds=2.0, rate_hz=48000) for kind in KINDS] + [_noise(*kind) for kind in SOUNDFILE_KINDS]


@cache
def _noise(container: str, subtype: str) -> bytes:
    stream = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (96000, 2))
    soundfile.write(stream, samples, 48000, format=container, subtype=subtype)
    return stream.getvalue()


def check(data: bytes) -> Probe | None:
    """Probe within bounds, with sane facts or one of two refusals."""
    source = Counting(data)
    found: Probe | None = None
    kind: ErrorKind | None = None
    try:
        found = probe(source)
    except AudioError as error:
        kind = error.kind
    assert source.reads < 40
    assert source.read_bytes < 4 << 20
    if found is None:
        assert kind is (ErrorKind.NOT_AUDIO if data else ErrorKind.EMPTY)
        return None
    assert (found.duration_seconds is None) == (found.duration_is is None)
    assert found.duration_seconds is None or (math.isfinite(found.duration_seconds) and found.duration_seconds >= 0)
    assert found.sample_rate_hz is None or 1 <= found.sample_rate_hz <= 768_000
    assert found.channels is None or 1 <= found.channels <= 64
    assert found.bit_rate_bps is None or found.bit_rate_bps >= 1
    assert 0 <= found.audio.start <= found.audio.stop <= len(data)
    assert found.codec is None or found.codec.isprintable()
    return found


ODD_BYTES = st.one_of(
    st.binary(max_size=400),
    st.builds(
        lambda magic, rest: magic + rest,
        st.sampled_from(
            [
                b"ID3\x04\0\0",
                b"APETAGEX",
                b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0",
                b"RF64\xff\xff\xff\xffWAVEds64",
                b"FORM\0\0\0\0AIFFCOMM",
                b"fLaC\0\0\0\x22",
                b"OggS\0\x02",
                b"caff\0\1\0\0desc",
                b"\0\0\0\x10ftyp",
                b"\0\0\0\x80moov",
                b"\x1a\x45\xdf\xa3\x80",
                b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\x16\x54\xae\x6b",
                bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
                b"\xff\xf1\x50\x80",
                b"\xff\xfb\x90\x64",
                b"\x0b\x77",
                b".snd",
                b"wvpk",
                b"TTA1",
                b"OggS" * 50,
            ]
        ),
        st.binary(max_size=400),
    ),
)


@pytest.mark.draws
@settings(max_examples=draws(300), deadline=None)
@given(data=ODD_BYTES, behind=st.sampled_from([b"", ID3V1, b"LYRICS200", b"LYRICSEND", ape(4), id3v2_behind(3)]))
def test_arbitrary_bytes_give_facts_or_a_refusal(data: bytes, behind: bytes) -> None:
    check(data + behind)


@pytest.mark.draws
@settings(max_examples=draws(1000), deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_damaged_files_give_facts_or_a_refusal(whole_files: list[bytes], seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(chance.choice(whole_files))
    for _ in range(chance.randrange(1, 30)):
        # Most of what can be damaged stands at the front and at the end.
        near = chance.choice((64, 512, 4096, len(data)))
        place = chance.randrange(min(near, len(data)))
        place = place if chance.random() < 0.7 else len(data) - 1 - place
        data[place] = chance.choice((0, 0xFF, 0x7F, 0x80, chance.randrange(256)))
    match chance.randrange(4):
        case 0:
            data = data[: chance.randrange(len(data))]
        case 1:
            data = data[: chance.randrange(200)]
        case 2:
            data = data[chance.randrange(len(data)) :]
    check(bytes(data))


def test_whole_files_are_known(whole_files: list[bytes]) -> None:
    for data in whole_files:
        found = check(data)
        assert found is not None
        assert found.duration_seconds == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(
    "pattern",
    [
        b"OggS\0\0" + bytes(20) + b"\0",
        b"\xff\xf1\x50\x80\x01\x1f\xfc",
        b"\xff\xfb\x90\x64",
        b"\0\0\0\x08free",
        b"\xff",
        b"ID3\x04\0\0\0\0\0\0",
        b"\0\0\0\x08moov",
        b"junk\0\0\0\0",
        b"\xec\x80",
        b"\xa0\x80",
    ],
)
def test_repeated_patterns_take_no_long_time(pattern: bytes) -> None:
    heads = [
        b"",
        b"RIFF\0\0\0\0WAVE",
        b"\0\0\0\x08ftyp\x7f\xff\xff\xffmoov",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff",
    ]
    heads += [b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\x16\x54\xae\x6b\xff"]
    for head in heads:
        data = head + pattern * (3_000_000 // len(pattern))
        began = time.process_time()
        check(data)
        assert time.process_time() - began < 2.0


def test_a_reader_stops_at_its_bound() -> None:
    source = Counting(bytes(10 << 20))
    reader = BoundedReader(source)
    for number in range(100):
        reader.upto(100_000 * number, 1 << 20)
    assert source.reads == MAX_READS
    assert source.read_bytes <= MAX_READS * BLOCK_BYTES
