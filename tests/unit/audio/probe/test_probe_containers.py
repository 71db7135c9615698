from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest
import soundfile

from mgc.audio.probe import probe
from mgc.audio.source import Held
from tests.unit.audio.made_files import RATE_HZ, SECONDS, by_ffmpeg, by_soundfile, counting, facts, ffmpeg_seconds

BY_SOUNDFILE = [
    ("WAV", "PCM_16", ("wav", "pcm", "counted")),
    ("WAV", "PCM_24", ("wav", "pcm", "counted")),
    ("WAV", "PCM_U8", ("wav", "pcm", "counted")),
    ("WAV", "DOUBLE", ("wav", "pcm", "counted")),
    ("WAV", "ULAW", ("wav", "mulaw", "counted")),
    ("WAV", "ALAW", ("wav", "alaw", "counted")),
    ("WAV", "MS_ADPCM", ("wav", "adpcm_ms", "counted")),
    ("WAV", "IMA_ADPCM", ("wav", "adpcm_ima", "counted")),
    ("WAVEX", "PCM_24", ("wav", "pcm", "counted")),
    ("WAVEX", "FLOAT", ("wav", "pcm", "counted")),
    ("RF64", "PCM_16", ("wav", "pcm", "counted")),
    ("W64", "PCM_16", ("w64", "pcm", "counted")),
    ("W64", "MS_ADPCM", ("w64", "adpcm_ms", "counted")),
    ("AIFF", "PCM_16", ("aiff", "pcm", "counted")),
    ("AIFF", "PCM_S8", ("aiff", "pcm", "counted")),
    ("AIFF", "FLOAT", ("aiff", "pcm", "counted")),
    ("AIFF", "ULAW", ("aiff", "mulaw", "counted")),
    ("AIFF", "IMA_ADPCM", ("aiff", "adpcm_ima", "counted")),
    ("CAF", "PCM_24", ("caf", "pcm", "counted")),
    ("CAF", "ALAC_16", ("caf", "alac", "announced")),
    ("AU", "PCM_16", ("au", "pcm", "counted")),
    ("AU", "FLOAT", ("au", "pcm", "counted")),
    ("FLAC", "PCM_24", ("flac", "flac", "announced")),
    ("OGG", "VORBIS", ("ogg", "vorbis", "counted")),
    ("OGG", "OPUS", ("ogg", "opus", "counted")),
]


@pytest.mark.parametrize(("container", "subtype", "expected"), BY_SOUNDFILE)
def test_soundfile_formats(container: str, subtype: str, expected: tuple[str, str, str]) -> None:
    data = by_soundfile(container, subtype)
    found = probe(Held(data))
    info = soundfile.info(io.BytesIO(data))
    assert facts(found) == expected
    assert (found.sample_rate_hz, found.channels) == (info.samplerate, info.channels)
    # To the sample, but for blocks of ADPCM that are filled up.
    block_seconds = 0.1 if subtype.endswith("ADPCM") else 1e-9
    assert found.duration_seconds == pytest.approx(info.duration, abs=block_seconds)
    assert found.audio == (0, len(data))


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16")])
def test_both_orders_of_bytes(container: str, subtype: str) -> None:
    for endian in ("LITTLE", "BIG"):
        found = probe(Held(by_soundfile(container, subtype, endian)))
        assert (found.codec, found.sample_rate_hz, found.channels) == ("pcm", RATE_HZ, 2)
        assert found.duration_seconds == SECONDS
        assert (found.bit_rate_mode, found.bit_rate_bps) == ("constant", RATE_HZ * 32)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100, 96000, 192000])
def test_sample_rates(rate_hz: int) -> None:
    for container, subtype in (("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("CAF", "ALAC_16")):
        found = probe(Held(by_soundfile(container, subtype, rate_hz=rate_hz)))
        assert (found.sample_rate_hz, found.duration_seconds) == (rate_hz, SECONDS)


BY_FFMPEG = [
    ("mp4", "aac", "mp4", "aac", "announced"),
    ("mp4", "alac", "mp4", "alac", "announced"),
    ("mp4", "libmp3lame", "mp4", "mp3", "announced"),
    ("mp4", "libopus", "mp4", "opus", "announced"),
    ("mp4", "flac", "mp4", "flac", "announced"),
    ("mp4", "ac3", "mp4", "ac3", "announced"),
    ("mov", "aac", "mp4", "aac", "announced"),
    ("mov", "pcm_s16le", "mp4", "pcm", "announced"),
    ("mov", "pcm_f64be", "mp4", "pcm", "announced"),
    ("matroska", "aac", "matroska", "aac", "announced"),
    ("matroska", "libmp3lame", "matroska", "mp3", "announced"),
    ("matroska", "flac", "matroska", "flac", "announced"),
    ("matroska", "pcm_s16le", "matroska", "pcm", "announced"),
    ("webm", "libopus", "matroska", "opus", "announced"),
    ("asf", "wmav1", "asf", "wma", "announced"),
    ("asf", "wmav2", "asf", "wma", "announced"),
    ("asf", "libmp3lame", "asf", "mp3", "announced"),
    ("ogg", "libopus", "ogg", "opus", "counted"),
    ("ogg", "flac", "ogg", "flac", "counted"),
    ("caf", "alac", "caf", "alac", "announced"),
    ("wav", "adpcm_ms", "wav", "adpcm_ms", "counted"),
    ("wav", "libmp3lame", "wav", "mp3", "announced"),
    ("tta", "tta", "tta", "tta", "announced"),
    ("wv", "wavpack", "wavpack", "wavpack", "announced"),
]


@pytest.mark.parametrize(("form", "encoder", "container", "codec", "known"), BY_FFMPEG)
def test_ffmpeg_formats(form: str, encoder: str, container: str, codec: str, known: str) -> None:
    data = by_ffmpeg(form, (encoder,))
    source = counting(data)
    found = probe(source)
    assert facts(found) == (container, codec, known)
    assert found.sample_rate_hz == RATE_HZ
    assert found.channels == 2 or container == "wavpack"
    # Encoders' delay and padding, an edit list's cut: two frames of 1,152 samples and a packet of Opus.
    assert found.duration_seconds == pytest.approx(ffmpeg_seconds(data), abs=0.07)
    assert found.duration_seconds == pytest.approx(SECONDS, abs=0.07)
    assert source.reads <= 4


@pytest.mark.parametrize(
    ("form", "encoder", "container", "codec"),
    [
        ("ac3", "ac3", "ac3", "ac3"),
        ("eac3", "eac3", "ac3", "eac3"),
        ("avi", "libmp3lame", "avi", None),
        ("voc", "pcm_u8", "voc", None),
    ],
)
def test_named_only(form: str, encoder: str, container: str, codec: str | None) -> None:
    found = probe(Held(by_ffmpeg(form, (encoder,))))
    assert (found.container, found.codec, found.duration_seconds) == (container, codec, None)


def test_aac_in_adts() -> None:
    data = by_ffmpeg("adts", ("aac",))
    found = probe(Held(data))
    assert facts(found) == ("aac", "aac", "estimated" if len(data) > 1 << 16 else "counted")
    assert (found.sample_rate_hz, found.channels) == (RATE_HZ, 2)
    assert found.duration_seconds == pytest.approx(SECONDS, rel=0.05)
    # A short one is counted to the frame; and is found behind a few bytes that are none of it.
    start = 4000 + data[4000:].index(data[:3])
    short = probe(Held(data[:20000]))
    assert short.duration_seconds == pytest.approx(20000 / len(data) * SECONDS, rel=0.1)
    assert probe(Held(data[4000:])).audio.start == start - 4000


@pytest.mark.parametrize("kind", ["m4a_streamed", "m4a"])
def test_index_before_and_behind_the_sound(make_file: Callable[..., bytes], kind: str) -> None:
    data = make_file(kind, seconds=20.0)
    assert (data.index(b"moov") < data.index(b"mdat")) == (kind == "m4a_streamed")
    source = counting(data)
    found = probe(source)
    assert found.duration_seconds == pytest.approx(20.0, abs=0.05)
    assert found.bit_rate_bps == pytest.approx(128_000, rel=0.05)
    assert source.reads <= 3


def test_fragmented_mp4() -> None:
    plain = by_ffmpeg("mp4", ("aac",), (("movflags", "frag_keyframe+empty_moov"), ("frag_duration", "500000")))
    found = probe(Held(plain))
    assert (found.codec, found.sample_rate_hz, found.duration_seconds) == ("aac", RATE_HZ, None)
    # An index of all fragments behind the movie box, and one that leaves the last fragments out.
    first, last = plain.index(b"moof") - 4, plain.rindex(b"moof") - 4
    for size, seconds in ((len(plain) - first, SECONDS), (last - first, None)):
        entries = struct.pack(">IIIIII", size - 1000, 2 * RATE_HZ, 0, 1000, RATE_HZ, 0)
        body = struct.pack(">IIIIIHH", 0, 1, RATE_HZ, 0, 0, 0, 2) + entries
        found = probe(Held(plain[:first] + struct.pack(">I4s", 8 + len(body), b"sidx") + body + plain[first:]))
        assert (found.codec, found.duration_seconds) == ("aac", seconds)
    assert b"sidx" in (each := by_ffmpeg("mp4", ("aac",), (("movflags", "dash"), ("frag_duration", "500000"))))
    assert probe(Held(each)).duration_seconds is None


def test_live_matroska_has_no_length() -> None:
    found = probe(Held(by_ffmpeg("matroska", ("aac",), (("live", "1"),))))
    assert (found.container, found.codec, found.duration_seconds) == ("matroska", "aac", None)
    assert (found.sample_rate_hz, found.channels) == (RATE_HZ, 2)


def test_matroska_facts_behind_the_clusters() -> None:
    # Info and Tracks moved behind the first cluster: only the seek head knows where.
    def element(name: str, body: bytes) -> bytes:
        return bytes.fromhex(name) + (len(body) | 1 << 56).to_bytes(8, "big") + body

    tracks = element("1654AE6B", element("AE", element("83", b"\x02") + element("86", b"A_OPUS\0\0")))
    info = element("1549A966", element("2AD7B1", b"\x0f\x42\x40") + element("4489", struct.pack(">d", 5000.0)))

    def seek(name: str, place: int) -> bytes:
        return element("4DBB", element("53AB", bytes.fromhex(name)) + element("53AC", place.to_bytes(8, "big")))

    cluster = element("1F43B675", bytes(200_000))
    head_bytes = len(element("114D9B74", seek("1549A966", 0) + seek("1654AE6B", 0)))
    place = head_bytes + len(cluster)
    seek_head = element("114D9B74", seek("1549A966", place) + seek("1654AE6B", place + len(info)))
    segment = element("18538067", seek_head + cluster + info + tracks)
    found = probe(Held(element("1A45DFA3", element("4282", b"webm")) + segment))
    assert (found.codec, found.duration_seconds, found.channels) == ("opus", 5.0, 1)
