"""Headers that lie, or whose file is cut; what a probe may cost."""

from __future__ import annotations

import os
import random
import struct
from itertools import pairwise
from pathlib import Path

import pytest
import soundfile

from mgc.audio.probe import probe, signature
from mgc.audio.source import Held
from mgc.errors import AudioError, ErrorKind
from tests.unit.audio.made_files import RATE_HZ, SECONDS, Counting, by_ffmpeg, by_soundfile, counting, facts


@pytest.mark.parametrize("announced", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_wav_announces_what_is_not_there(announced: int) -> None:
    data = bytearray(by_soundfile("WAV", "PCM_16"))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", announced)
    found = probe(Held(bytes(data)))
    assert (found.duration_seconds, found.duration_is) == (SECONDS, "counted")
    cut = probe(Held(bytes(data[: len(data) // 2])))
    assert cut.duration_seconds == pytest.approx(SECONDS / 2, abs=0.001)


def test_other_headers_announce_what_is_not_there() -> None:
    for container, mark, size in (
        ("AIFF", b"SSND", 4),
        ("CAF", b"data", 8),
        ("RF64", b"ds64", 8),
        ("W64", b"data", 24),
    ):
        data = bytearray(by_soundfile(container, "PCM_16"))
        at = data.index(mark) + len(mark)
        at += 12 if container == "W64" else 0
        if container == "RF64":
            data[at + 12 : at + 20] = struct.pack("<Q", 1 << 50)
            at_data = data.index(b"data") + 4
            data[at_data : at_data + 4] = b"\xff" * 4
        else:
            data[at : at + size] = b"\x7f" + b"\xff" * (size - 2) + b"\x7f"
        found = probe(Held(bytes(data)))
        assert (container, found.duration_seconds, found.duration_is) == (container, SECONDS, "counted")
    frames = bytearray(by_soundfile("AIFF", "PCM_16"))
    at = frames.index(b"COMM") + 10
    frames[at : at + 4] = b"\xff" * 4
    assert probe(Held(bytes(frames))).duration_seconds == SECONDS


def test_nonsense_numbers_become_none() -> None:
    data = bytearray(by_soundfile("WAV", "PCM_16"))
    at = data.index(b"fmt ") + 10
    for rate, channels in ((0, 0), (1_000_000, 65), (0xFFFFFFFF, 0xFFFF)):
        data[at : at + 6] = struct.pack("<HI", channels, rate)
        found = probe(Held(bytes(data)))
        assert (found.sample_rate_hz, found.channels, found.duration_seconds) == (None, None, None)


def test_flac_of_unknown_length() -> None:
    data = bytearray(by_soundfile("FLAC", "PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    found = probe(Held(bytes(data)))
    assert (found.codec, found.sample_rate_hz, found.channels) == ("flac", RATE_HZ, 2)
    assert (found.duration_seconds, found.duration_is, found.bit_rate_bps) == (None, None, None)


def pages(data: bytes) -> list[bytes]:
    starts = [at for at in range(len(data)) if data[at : at + 5] == b"OggS\0"]
    return [data[start:stop] for start, stop in pairwise([*starts, len(data)])]


def test_ogg_cut_in_a_page_counts_the_page_before() -> None:
    whole = pages(by_soundfile("OGG", "VORBIS"))
    granule = struct.unpack_from("<q", whole[-3], 6)[0]
    found = probe(Held(b"".join(whole[:-2]) + whole[-2][:-1]))
    assert (found.duration_seconds, found.duration_is) == (granule / RATE_HZ, "counted")


def test_ogg_chain_is_estimated_and_other_streams_passed_over() -> None:
    one = by_soundfile("OGG", "VORBIS")
    other = b"".join(page[:14] + b"\1\2\3\4" + page[18:] for page in pages(one))
    assert struct.unpack_from("<I", one, 14)[0] != 0x04030201
    found = probe(Held(one + other * 3))
    assert (found.codec, found.duration_is) == ("vorbis", "estimated")
    assert found.duration_seconds == pytest.approx(4 * SECONDS, rel=0.15)
    for codecs in (("libopus", "flac"), ("flac", "libopus")):
        both = probe(Held(by_ffmpeg("ogg", codecs)))
        assert both.codec == codecs[0].removeprefix("lib")
        assert both.duration_seconds == pytest.approx(SECONDS, abs=0.05)
        assert both.bit_rate_bps is None


def test_a_huge_file_costs_few_reads() -> None:
    size = 10 << 30
    moov = by_ffmpeg("mp4", ("aac",))
    moov = moov[moov.index(b"moov") - 4 :]
    head = struct.pack(">I4s8x", 16, b"ftyp") + struct.pack(">I4sQ", 1, b"mdat", size - len(moov) - 16)
    files = {
        "mp4": Counting(head, size, {size - len(moov): moov}),
        "wav": Counting(b"RIFF\0\0\0\0WAVE" + struct.pack("<4sI", b"junk", 50) * 9000, size),
        "ogg": Counting(by_soundfile("OGG", "VORBIS")[:30000] * 3, size),
        "matroska": Counting(b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"\xec\x81\0" * 30000, size),
        "aiff": Counting(b"FORM\0\0\0\0AIFF", size),
        "asf": Counting(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + b"\xff" * 8 + b"\xff" * 60000, size),
    }
    for container, source in files.items():
        found = probe(source)
        assert found.container == container
        assert source.reads < 40
        assert source.read_bytes < 4 << 20
    assert probe(files["mp4"]).duration_seconds == pytest.approx(SECONDS, abs=0.07)


@pytest.mark.parametrize(
    "data",
    [b"<html>no sound here</html>", bytes(100_000), b"the free skip", b"\xff", random.Random(0).randbytes(300_000)],
)
def test_no_audio_is_refused(data: bytes) -> None:
    with pytest.raises(AudioError) as refusal:
        probe(Held(data))
    assert refusal.value.kind is ErrorKind.NOT_AUDIO


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(AudioError) as refusal:
        probe(Held(b""))
    assert refusal.value.kind is ErrorKind.EMPTY


def test_signatures() -> None:
    for kind, name in (
        ("WAV", "wav"),
        ("RF64", "wav"),
        ("AIFF", "aiff"),
        ("FLAC", "flac"),
        ("W64", "w64"),
        ("AU", "au"),
    ):
        assert signature(by_soundfile(kind, "PCM_16")[:16]) == name
    assert signature(b"PK\x03\x04") is None
    assert signature(b"") is None
    assert signature(b"the free lunch") is None


def test_lengths_of_real_music() -> None:
    folder = os.environ.get("MGC_TEST_DATA")
    if not folder or not (Path(folder) / "music").is_dir():
        pytest.skip("MGC_TEST_DATA names no folder with music/")
    files = sorted((Path(folder) / "music").glob("*.ogg"))
    assert files
    for path in files:
        source = counting(path.read_bytes())
        found = probe(source)
        info = soundfile.info(path)
        assert facts(found) == ("ogg", "vorbis", "counted")
        assert (found.sample_rate_hz, found.channels) == (info.samplerate, info.channels)
        assert found.duration_seconds == pytest.approx(info.duration, abs=1e-6)
        assert source.read_bytes <= 150_000
