"""Encode samples as the bytes of an MP3 file, whole or damaged.

PyAV's libmp3lame (LAME inside FFmpeg) is the encoder: it takes a constant bit rate in kbit/s or a VBR quality, the
stereo mode and tags. Its muxer writes the Info (constant rate) or Xing (variable rate, with the table of contents)
header and the encoder's delay and padding, so that both soundfile and PyAV decode exactly the samples that went in
(see `decodes_exactly` for the exception). soundfile could write MP3 too, but takes only a compression level and
constant or variable: no bit rate in kbit/s, no stereo mode. The same samples and settings give the same bytes with the
same library.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Final, Literal

import av
import numpy as np

from mgc.datasets.synthetic.timbre import Samples

ChannelMode = Literal["mono", "stereo", "joint"]
Damage = Literal["truncated", "empty", "not_audio", "tags_only", "corrupt"]

DAMAGES: Final[tuple[Damage, ...]] = ("truncated", "empty", "not_audio", "tags_only", "corrupt")
"""Kinds of damaged file: cut in its second half; no bytes at all; an HTML page under the name of an MP3; ID3 tags
without one audio frame; noise in place of the middle third."""

_FASTEST: Final = "9"
"""LAME's speed setting: no psychoacoustics, a third less time than the default; the corpus is not for listening."""

_LAMBDA: Final = 118
"""FFmpeg's FF_QP2LAMBDA, the unit of a VBR quality."""

_ERROR_PAGE: Final = (
    b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n"
    b"<body><h1>Not Found</h1><p>The requested track is no longer available.</p></body></html>\n"
)


def decodes_exactly(frames: int, sample_rate_hz: int) -> bool:
    """Return whether a file of `frames` samples decodes to exactly that many.

    If the last MPEG frame holds only 1 to 46 samples, the padding that the muxer writes in the header is too short
    (measured with PyAV 18), and every decoder returns up to 46 samples too many.
    """
    mpeg_frame = 1152 if sample_rate_hz >= 32000 else 576
    return not 0 < frames % mpeg_frame < 47


def encode_mp3(
    wave_CT: Samples,
    *,
    sample_rate_hz: int,
    channel_mode: ChannelMode,
    bit_rate_kbps: int | None,
    vbr_quality: int | None,
    tags: dict[str, str],
) -> bytes:
    """Encode one track.

    Args:
        wave_CT: (1 or 2, T) float32 within -1 to 1.
        sample_rate_hz: one of MPEG's: 48000, 44100, 32000, 24000, 22050, 16000.
        channel_mode: `joint` lets LAME code mid and side, `stereo` forbids it, `mono` needs one channel.
        bit_rate_kbps: constant bit rate; None for a variable one.
        vbr_quality: 0 (best) to 9, LAME's -V; None for a constant rate.
        tags: written as ID3v2.4.

    Returns:
        The bytes of the file.
    """
    layout = "mono" if channel_mode == "mono" else "stereo"
    options = {"compression_level": _FASTEST}
    if channel_mode == "stereo":
        options["joint_stereo"] = "0"
    if vbr_quality is not None:
        options |= {"flags": "+qscale", "global_quality": str(vbr_quality * _LAMBDA)}
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        container.metadata.update(tags)
        stream = container.add_stream("libmp3lame", rate=sample_rate_hz)
        stream.codec_context.layout = layout
        stream.codec_context.format = "fltp"
        stream.codec_context.options = options
        if bit_rate_kbps is not None:
            stream.bit_rate = 1000 * bit_rate_kbps
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave_CT), format="fltp", layout=layout)
        frame.sample_rate = sample_rate_hz
        frame.time_base = Fraction(1, sample_rate_hz)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def spoil(data: bytes, damage: Damage, rng: np.random.Generator) -> bytes:
    """Damage a whole file.

    Args:
        data: an MP3 file that begins with ID3 tags.
        damage: kind of damage.
        rng: random generator that places the cut or the noise.
    """
    if damage == "empty":
        return b""
    if damage == "not_audio":
        return _ERROR_PAGE
    if damage == "tags_only":
        return data[: _audio_begins(data)]
    if damage == "truncated":
        return data[: int(len(data) * rng.uniform(0.5, 0.9))]
    third = len(data) // 3
    return data[:third] + rng.bytes(third) + data[2 * third :]


def _audio_begins(data: bytes) -> int:
    """Return the size of the ID3v2 tag at the head of the file: ten bytes, and a length in four bytes of seven bits."""
    first, second, third, fourth = data[6:10]
    return 10 + (first << 21 | second << 14 | third << 7 | fourth)
