"""Good files of every format that can be written here, each with a sound whose place can be recognised.

C: channels, T: samples in time.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

import av
import numpy as np
import soundfile

from mgc.audio.mpeg import FrameHeader, frames
from tests.damage.ogg import with_serial
from tests.damage.sound import REFERENCE_HZ, Samples, make_sound, silence

LAYOUTS: Final = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


@dataclass(frozen=True, eq=False)
class Piece:
    """A good file.

    Attributes:
        data: its bytes.
        format: name of its format, see `FORMATS`.
        extension: with its dot.
        rate_hz: sample rate.
        channels: number of channels.
        reference: (T,) float32, its sound at the reference rate, in mono.
        lead_seconds: silence before the sound: the delay of encoder and decoder, and a frame that holds a tag.
        tail_seconds: silence after it, up to the end of the last frame.
        gapless: whether the file tells a decoder to leave these out. It does so only at the head of a file.
    """

    data: bytes
    format: str
    extension: str
    rate_hz: int
    channels: int
    reference: Samples
    lead_seconds: float = 0.0
    tail_seconds: float = 0.0
    gapless: bool = True

    @property
    def seconds(self) -> float:
        return len(self.reference) / REFERENCE_HZ


Encoder = Callable[[Samples, int], bytes]
"""Turns (C, T) float32 and a sample rate into a file."""


def _by_soundfile(container: str, subtype: str, **options: Any) -> Encoder:
    def encode(wave_CT: Samples, rate_hz: int) -> bytes:
        stream = io.BytesIO()
        with soundfile.SoundFile(
            stream, "w", rate_hz, len(wave_CT), format=container, subtype=subtype, **options
        ) as file:
            # libvorbis' encoder takes its blocks from the stack: a long write would end the process.
            for start in range(0, wave_CT.shape[1], 1 << 14):
                file.write(np.ascontiguousarray(wave_CT[:, start : start + (1 << 14)].T))
        return _as_ever(stream.getvalue(), wave_CT)

    return encode


def _as_ever(data: bytes, wave_CT: Samples) -> bytes:
    """Take out what makes each encoding differ: libsndfile's serial numbers and its time of day."""
    if data[:4] == b"OggS":
        return with_serial(data, zlib.crc32(wave_CT[:, : 1 << 14].tobytes()))
    peak = data.find(b"PEAK", 12, 200)
    return data if peak < 0 else data[: peak + 12] + bytes(4) + data[peak + 16 :]


def _by_ffmpeg(
    container: str,
    codec: str,
    kbps: int = 128,
    codec_options: Mapping[str, str] | None = None,
    sample_format: str | None = None,
    **options: str,
) -> Encoder:
    def encode(wave_CT: Samples, rate_hz: int) -> bytes:
        stream, layout = io.BytesIO(), LAYOUTS[len(wave_CT)]
        with av.open(stream, "w", format=container, options={"fflags": "+bitexact", **options}) as out:
            encoder: Any = out.add_stream(codec, rate=rate_hz, layout=layout, options=dict(codec_options or {}))
            encoder.bit_rate = kbps * 1000
            if sample_format is not None:
                encoder.codec_context.format = sample_format
            resampler = av.AudioResampler(encoder.codec_context.format, layout, rate_hz)
            for start in range(0, wave_CT.shape[1], 1 << 14):
                part = np.ascontiguousarray(wave_CT[:, start : start + (1 << 14)].T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
                frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), start
                for converted in resampler.resample(frame):
                    out.mux(encoder.encode(converted))
            for converted in [*resampler.resample(None), None]:
                out.mux(encoder.encode(converted))
        return _as_ever(stream.getvalue(), wave_CT)

    return encode


def _with_vbri(encoder: Encoder) -> Encoder:
    """Put Fraunhofer's table in front of an MP3 without a tag."""

    def encode(wave_CT: Samples, rate_hz: int) -> bytes:
        data = encoder(wave_CT, rate_hz)
        found = mpeg_frames(data)
        sizes = [header.size_bytes for _, header in found]
        # The tag's frame has the first one's header; a table of 50 entries fits into 128 kbit/s.
        entries = 50
        each = -(-len(sizes) // entries)
        table = [sum(sizes[start : start + each]) for start in range(0, len(sizes), each)]
        stated = struct.pack(">HHHIIHHHH", 1, 1105, 75, len(data), len(sizes), len(table), 1, 4, each)
        body = b"VBRI" + stated + b"".join(struct.pack(">I", entry) for entry in table)
        head = data[:4].ljust(36, b"\0") + body
        return head.ljust(sizes[0], b"\0") + data

    return encode


_FRAGMENTS: Final = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}
_LAME: Final = {"compression_level": "9"}
_BEST: Final = {"compression_level": "9", "flags": "+qscale", "global_quality": "236"}

FORMATS: Final[Mapping[str, tuple[str, Encoder]]] = {
    "wav": (".wav", _by_soundfile("WAV", "PCM_16")),
    "wav24": (".wav", _by_soundfile("WAV", "PCM_24")),
    "wav_float": (".wav", _by_soundfile("WAV", "FLOAT")),
    "wav_ulaw": (".wav", _by_soundfile("WAV", "ULAW")),
    "wav_ima": (".wav", _by_ffmpeg("wav", "adpcm_ima_wav", 0)),
    "wav_yamaha": (".wav", _by_ffmpeg("wav", "adpcm_yamaha", 0)),
    "aiff": (".aiff", _by_soundfile("AIFF", "PCM_16")),
    "au": (".au", _by_soundfile("AU", "PCM_16")),
    "flac": (".flac", _by_soundfile("FLAC", "PCM_16")),
    "flac24": (".flac", _by_soundfile("FLAC", "PCM_24")),
    "vorbis": (".ogg", _by_soundfile("OGG", "VORBIS")),
    "opus": (".opus", _by_soundfile("OGG", "OPUS")),
    "ogg_flac": (".oga", _by_ffmpeg("ogg", "flac", 0)),
    "mp3": (".mp3", _by_ffmpeg("mp3", "libmp3lame", 128, _LAME)),
    "mp3_320": (".mp3", _by_ffmpeg("mp3", "libmp3lame", 320, _LAME)),
    "mp3_vbr": (".mp3", _by_ffmpeg("mp3", "libmp3lame", 0, _BEST)),
    "mp3_untagged": (".mp3", _by_ffmpeg("mp3", "libmp3lame", 128, _LAME, write_xing="0", id3v2_version="0")),
    "mp3_vbr_untagged": (".mp3", _by_ffmpeg("mp3", "libmp3lame", 0, _BEST, write_xing="0", id3v2_version="0")),
    "mp3_vbri": (".mp3", _with_vbri(_by_ffmpeg("mp3", "libmp3lame", 192, _LAME, write_xing="0", id3v2_version="0"))),
    "mp2": (".mp2", _by_ffmpeg("mp2", "mp2", 192)),
    "aac": (".aac", _by_ffmpeg("adts", "aac")),
    "m4a": (".m4a", _by_ffmpeg("mp4", "aac")),
    "m4a_index_first": (".m4a", _by_ffmpeg("mp4", "aac", moov_size="60000")),
    "m4a_fragmented": (".m4a", _by_ffmpeg("mp4", "aac", **_FRAGMENTS)),
    "alac": (".m4a", _by_ffmpeg("mp4", "alac", 0)),
    "wma": (".wma", _by_ffmpeg("asf", "wmav2")),
    "ac3": (".ac3", _by_ffmpeg("ac3", "ac3", 192)),
    "eac3": (".eac3", _by_ffmpeg("eac3", "eac3", 192)),
    "wavpack": (".wv", _by_ffmpeg("wv", "wavpack", 0, sample_format="s16p")),
    "tta": (".tta", _by_ffmpeg("tta", "tta", 0, sample_format="s16")),
    "matroska": (".mka", _by_ffmpeg("matroska", "aac")),
    "webm": (".webm", _by_ffmpeg("webm", "libopus", 96)),
    "caf": (".caf", _by_ffmpeg("caf", "pcm_s16be", 0)),
}
"""Extension and encoder of each format. `mp3_vbri` has a VBRI tag, other MP3s a Xing or Info tag or none."""

RATES_HZ: Final[Mapping[str, Sequence[int]]] = {
    **dict.fromkeys(
        ("wav", "wav24", "wav_float", "aiff", "au", "flac", "flac24", "ogg_flac", "caf", "alac", "wavpack", "tta"),
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000),
    ),
    **dict.fromkeys(
        ("mp3", "mp3_320", "mp3_vbr", "mp3_untagged", "mp3_vbr_untagged"),
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ),
    **dict.fromkeys(("opus",), (8000, 12000, 16000, 24000, 48000)),
    **dict.fromkeys(("vorbis",), (8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000)),
    **dict.fromkeys(
        ("aac", "m4a", "m4a_index_first", "m4a_fragmented"),
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
    ),
    "mp3_vbri": (32000, 44100, 48000),
    "mp2": (32000, 44100, 48000),
    "ac3": (32000, 44100, 48000),
    "eac3": (32000, 44100, 48000),
    "wma": (22050, 32000, 44100, 48000),
    "wav_ulaw": (8000, 16000, 44100),
    "wav_ima": (22050, 44100),
    "wav_yamaha": (22050, 44100),
    "matroska": (32000, 44100, 48000),
    "webm": (48000,),
}
"""Sample rates that an encoder takes, in Hz."""

_FRAMES: Final = {"ac3": (256, 1536), "eac3": (256, 1536), "mp2": (481, 1152)}
"""Delay and length of a frame in samples, of formats that do not say how much of them is silence."""

_MP3_DELAY: Final = 1105
"""Samples: LAME's 576 and the decoder's 529."""


@lru_cache(maxsize=512)
def make_piece(name: str, seconds: float, seed: int, rate_hz: int = 44100, channels: int = 2) -> Piece:
    """Return a file of a format, with the same sound in all channels."""
    wave_T = make_sound(seed, seconds, rate_hz)
    piece = encode(name, np.broadcast_to(wave_T, (channels, len(wave_T))), rate_hz)
    return replace(piece, reference=make_sound(seed, seconds, REFERENCE_HZ))


def encode(name: str, wave_CT: Samples, rate_hz: int) -> Piece:
    """Return a file with any sound. Its reference is silence of its length, to be replaced."""
    extension, encoder = FORMATS[name]
    data = encoder(wave_CT, rate_hz)
    seconds = wave_CT.shape[1] / rate_hz
    lead, total, gapless = 0.0, seconds, True
    if name.startswith("mp3"):
        headers = [header for _, header in mpeg_frames(data)]
        tags = not name.endswith("untagged")
        lead = (_MP3_DELAY + tags * headers[0].samples) / rate_hz
        total = sum(header.samples for header in headers) / rate_hz
        gapless = tags and name != "mp3_vbri"
    elif name == "aac":
        lead, total, gapless = 1024 / rate_hz, adts_frames(data) * 1024 / rate_hz, False
    elif name in _FRAMES:
        delay, frame = _FRAMES[name]
        lead, gapless = delay / rate_hz, False
        total = -(-(wave_CT.shape[1] + delay) // frame) * frame / rate_hz
    tail = max(0.0, total - lead - seconds)
    return Piece(data, name, extension, rate_hz, len(wave_CT), silence(seconds), lead, tail, gapless)


def id3_bytes(data: bytes) -> int:
    """Return the length of the ID3v2 tag in front of a good file; 0 without one."""
    if data[:3] != b"ID3":
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))


def mpeg_frames(data: bytes) -> list[tuple[int, FrameHeader]]:
    """Return the frames of a good MP3 with their places, that of its Xing or Info tag included."""
    return list(frames(data, id3_bytes(data)))


def adts_frames(data: bytes) -> int:
    """Return the number of frames of a good ADTS file."""
    place = count = 0
    while place + 7 <= len(data) and data[place] == 0xFF:
        place += (data[place + 3] & 3) << 11 | data[place + 4] << 3 | data[place + 5] >> 5
        count += 1
    return count


def join(pieces: Sequence[Piece]) -> Samples:
    """Return the reference of pieces that are glued together."""
    parts: list[Samples] = []
    for number, piece in enumerate(pieces):
        trimmed = number == 0 and piece.gapless
        parts += [
            silence(0.0 if trimmed else piece.lead_seconds),
            piece.reference,
            silence(0.0 if trimmed else piece.tail_seconds),
        ]
    return np.concatenate(parts)
