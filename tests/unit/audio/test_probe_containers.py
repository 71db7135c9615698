from __future__ import annotations

import io
import os
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mgc.audio.probe import Probe, probe, signature
from mgc.audio.source import ByteRange, Held
from mgc.errors import AudioError, ErrorKind

RATE_HZ = 48000
SECONDS = 3.0


@dataclass
class Counting:
    """A file of any claimed size that counts what is read; behind its data come zeros."""

    data: bytes
    size_bytes: int
    behind: dict[int, bytes] = field(default_factory=dict)
    reads: int = 0
    read_bytes: int = 0

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        parts = []
        for start, stop in ranges:
            assert 0 <= start <= stop
            stop = min(stop, self.size_bytes)
            part = bytearray(self.data[start:stop].ljust(stop - start, b"\0"))
            for place, there in self.behind.items():
                if start <= place < stop:
                    part[place - start : place - start + len(there)] = there[: stop - place]
            parts.append(bytes(part))
            self.reads += 1
            self.read_bytes += len(part)
        return parts


def counting(data: bytes) -> Counting:
    return Counting(data, len(data))


def noise(channels: int = 2, rate_hz: int = RATE_HZ) -> np.ndarray:
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (round(SECONDS * rate_hz), channels))
    return samples.astype(np.float32)


@cache
def by_soundfile(container: str, subtype: str, endian: str = "FILE", rate_hz: int = RATE_HZ) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, noise(rate_hz=rate_hz), rate_hz, format=container, subtype=subtype, endian=endian)
    return stream.getvalue()


@cache
def by_ffmpeg(container: str, codecs: tuple[str, ...], options: tuple[tuple[str, str], ...] = ()) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=container, options=dict(options)) as out:
        encoders = []
        for codec in codecs:
            encoder = out.add_stream(codec, rate=RATE_HZ, layout="stereo")
            encoder.bit_rate = 128_000
            encoders.append((encoder, av.AudioResampler(encoder.codec_context.format, "stereo", RATE_HZ)))
        for number, part in enumerate(np.split(noise(), 36)):
            for encoder, resampler in encoders:
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part).reshape(1, -1), "flt", "stereo")
                frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, number * len(part), Fraction(1, RATE_HZ)
                for piece in resampler.resample(frame):
                    out.mux(encoder.encode(piece))
        for encoder, resampler in encoders:
            for piece in [*resampler.resample(None), None]:
                out.mux(encoder.encode(piece))
    return stream.getvalue()


def ffmpeg_seconds(data: bytes) -> float | None:
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return file.duration / av.time_base if file.duration is not None else None


def facts(found: Probe) -> tuple[str, str | None, str | None]:
    return found.container, found.codec, found.duration_is


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
