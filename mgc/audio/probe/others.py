"""Formats that are recognised by their first bytes only, with a few facts if one header holds them."""

from __future__ import annotations

from typing import Final

from mgc.audio.probe.found import Found
from mgc.audio.probe.reader import BoundedReader

SIGNATURES: Final[tuple[tuple[bytes, str, str | None], ...]] = (
    (b".snd", "au", None),
    (b"dns.", "au", None),
    (b"TTA1", "tta", "tta"),
    (b"wvpk", "wavpack", "wavpack"),
    (b"#!AMR-WB", "amr", "amr_wb"),
    (b"#!AMR", "amr", "amr_nb"),
    (b"MAC ", "ape", "ape"),
    (b"MP+", "musepack", "musepack7"),
    (b"MPCK", "musepack", "musepack8"),
    (b"DSD ", "dsf", "dsd"),
    (b"FRM8", "dsdiff", "dsd"),
    (b"tBaK", "tak", "tak"),
    (b"\x7f\xfe\x80\x01", "dts", "dts"),
    (b"Creative Voice File\x1a", "voc", None),
    (b".RMF", "realmedia", None),
    (b"FLV\x01", "flv", None),
    (b"NIST_1A", "nist", None),
    (b"\x00\x00\x01\xba", "mpegps", None),
)
"""First bytes, container, and codec if the container implies it."""

_AC3_RATES_HZ: Final = (48000, 44100, 32000)
_AU_CODECS: Final = {
    1: ("mulaw", 1),
    **{2 + number: ("pcm", sample_bytes) for number, sample_bytes in enumerate((1, 2, 3, 4, 4, 8))},
    27: ("alaw", 1),
}
"""Codec and bytes per sample, by the number of the encoding."""

_WAVPACK_RATES_HZ: Final = (6000, 8000, 9600, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200)
_UNKNOWN: Final = 0xFFFFFFFF


def is_ac3(head: bytes) -> bool:
    """Return whether an AC-3 or E-AC-3 frame begins here: a sync word, and a rate, size and version that exist."""
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return False
    version = head[5] >> 3
    return 11 <= version <= 16 or (version <= 10 and head[4] >> 6 != 3 and head[4] & 63 < 38)


def parse_ac3(reader: BoundedReader, found: Found) -> None:
    """Collect the codec and, for AC-3, the sample rate."""
    head = reader.need(found.audio.start, 6)
    plain = head[5] >> 3 <= 10
    found.codec = "ac3" if plain else "eac3"
    if plain and head[4] >> 6 < 3:
        found.sample_rate_hz = _AC3_RATES_HZ[head[4] >> 6] >> max(0, (head[5] >> 3) - 8)


def parse_other(reader: BoundedReader, found: Found) -> None:
    """Collect facts of a format in `SIGNATURES`.

    Raises:
        OutOfBytesError: the file ends within its header.
    """
    start, stop = found.audio
    head = reader.upto(start, 32)
    found.codec = next((codec for magic, _, codec in SIGNATURES if head.startswith(magic)), None)
    if found.container == "au":
        _au(reader, found, start, stop)
    elif found.container == "tta":
        found.channels, _, found.sample_rate_hz, samples = reader.unpack("<HHII", start + 6)
        found.samples(samples, "announced")
    elif found.container == "wavpack":
        high, samples, flags = reader.unpack("<11xBI8xI", start)
        rate_number = flags >> 23 & 15
        if rate_number < len(_WAVPACK_RATES_HZ):
            found.sample_rate_hz = _WAVPACK_RATES_HZ[rate_number]
        if samples != _UNKNOWN:
            found.samples(samples | high << 32, "announced")


def _au(reader: BoundedReader, found: Found, start: int, stop: int) -> None:
    order = "<" if reader.need(start, 4) == b"dns." else ">"
    offset, size, encoding, rate, channels = reader.unpack(order + "IIIII", start + 4)
    found.sample_rate_hz, found.channels = rate, channels
    found.codec, sample_bytes = _AU_CODECS.get(encoding, (f"0x{encoding:08x}", 0))
    there = max(0, stop - start - offset)
    if channels and sample_bytes:
        there = min(there, size) if size not in (0, _UNKNOWN) else there
        found.samples(there // (channels * sample_bytes), "counted")
        found.bit_rate_mode, found.bit_rate_bps = "constant", 8 * channels * sample_bytes * rate
