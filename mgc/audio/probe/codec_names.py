"""Names of codecs, by the numbers and codes that containers use."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_WAVE_TAGS: Final = {
    0x0001: "pcm",
    0x0002: "adpcm_ms",
    0x0003: "pcm",
    0x0006: "alaw",
    0x0007: "mulaw",
    0x000A: "wma_voice",
    0x0011: "adpcm_ima",
    0x0031: "gsm",
    0x0050: "mp2",
    0x0055: "mp3",
    0x00FF: "aac",
    0x0160: "wma",
    0x0161: "wma",
    0x0162: "wma_pro",
    0x0163: "wma_lossless",
    0x1600: "aac",
    0x1610: "aac",
    0x2000: "ac3",
    0x2001: "dts",
    0x566F: "vorbis",
    0x674F: "vorbis",
    0xF1AC: "flac",
}
_EXTENSIBLE: Final = 0xFFFE

_FOUR_CHARACTERS: Final = {
    **dict.fromkeys((b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"lpcm", b"ipcm", b"fpcm"), "pcm"),
    **dict.fromkeys((b"fl32", b"FL32", b"fl64", b"FL64", b"23ni", b"42ni"), "pcm"),
    **dict.fromkeys((b"alaw", b"ALAW"), "alaw"),
    **dict.fromkeys((b"ulaw", b"ULAW"), "mulaw"),
    **dict.fromkeys((b"aac ", b"aach", b"aacp", b"aacl"), "aac"),
    **dict.fromkeys((b".mp3", b"ms\x00\x55", b"mp3 "), "mp3"),
    b".mp1": "mp1",
    b".mp2": "mp2",
    b"mp4a": "aac",
    b"alac": "alac",
    b"Opus": "opus",
    b"opus": "opus",
    b"fLaC": "flac",
    b"flac": "flac",
    b"ac-3": "ac3",
    b"ec-3": "eac3",
    b"samr": "amr_nb",
    b"sawb": "amr_wb",
    b"ima4": "adpcm_ima",
    b"GSM ": "gsm",
    b"agsm": "gsm",
}


def four_characters(code: bytes) -> str:
    """Return the name of a codec by its code in Apple's containers (MP4, QuickTime, AIFC, CAF), else the code."""
    name = _FOUR_CHARACTERS.get(code)
    if name is not None:
        return name
    text = code.decode("ascii", "replace").strip(" \0")
    return text if text.isascii() and text.isprintable() and text else "0x" + code.hex()


class WaveFormat(NamedTuple):
    """A WAVEFORMATEX, as WAV, ASF and Matroska hold it."""

    codec: str
    channels: int
    sample_rate_hz: int
    bytes_a_second: int
    block_bytes: int
    bits: int
    samples_a_block: int
    """Samples in a block of ADPCM or GSM; 0 if not stated."""


def wave_format(data: bytes, order: str = "<") -> WaveFormat | None:
    """Parse a WAVEFORMATEX, or the older WAVEFORMAT of 14 bytes, in either byte order; None if it is truncated."""
    if len(data) < 14:
        return None
    tag, channels, rate_hz, bytes_a_second, block_bytes = struct.unpack_from(order + "HHIIH", data)
    bits = struct.unpack_from(order + "H", data, 14)[0] if len(data) >= 16 else 8
    extra = struct.unpack_from(order + "H", data, 18)[0] if len(data) >= 20 else 0
    if tag == _EXTENSIBLE and len(data) >= 26:
        [tag] = struct.unpack_from(order + "H", data, 24)
    codec = _WAVE_TAGS.get(tag, f"0x{tag:04x}")
    samples = extra if codec in ("adpcm_ms", "adpcm_ima", "gsm") else 0
    return WaveFormat(codec, channels, rate_hz, bytes_a_second, block_bytes, bits, samples)
