"""Lengths in headers that lie, in both directions. The sound is all there."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from numpy.random import Generator

from tests.damage.draw import Kind, damaged, draw_piece, pick
from tests.damage.generated import Generated, Said
from tests.damage.ogg import last_page, with_granule
from tests.damage.pieces import Piece, mpeg_frames

_FEWER: Final = (0.02, 0.3, 0.5, 0.9)
_MORE: Final = (1.1, 1.5, 2.0, 40.0)


def _lie(rng: Generator, piece: Piece) -> tuple[float, Said]:
    """A factor for a count, and what must be said of it."""
    factor = pick(rng, _FEWER + _MORE)
    return factor, Said.NOT_MISSING if factor < 1 else Said.MISSING


def _mp3_tag(rng: Generator) -> Generated:
    """The counts of frames and bytes in a Xing, Info or VBRI tag."""
    piece = draw_piece(rng, ("mp3", "mp3_vbr", "mp3_320", "mp3_vbri"), (9.0, 20.0, 60.0))
    data = bytearray(piece.data)
    start, header = mpeg_frames(piece.data)[0]
    vbri = piece.format == "mp3_vbri"
    tag = start + (36 if vbri else header.side_bytes)
    assert data[tag : tag + 4] in (b"Xing", b"Info", b"VBRI")
    frames_at, bytes_at = (tag + 14, tag + 10) if vbri else (tag + 8, tag + 12)
    which = pick(rng, ("frames", "bytes", "both"))
    factor = pick(rng, (0.0, *_FEWER, *_MORE, float("inf")))
    for place, name in ((frames_at, "frames"), (bytes_at, "bytes")):
        if which in (name, "both"):
            (count,) = struct.unpack_from(">I", data, place)
            struct.pack_into(">I", data, place, 2**32 - 1 if factor == float("inf") else int(count * factor))
    said = Said.NOT_MISSING if factor < 1 else Said.MISSING if which != "bytes" and factor < 100 else Said.ANYTHING
    return damaged(piece, "MP3 tag's counts lie", f"{which} x {factor:g}", bytes(data), said)


def _flac(rng: Generator) -> Generated:
    """The total of samples in STREAMINFO; 0 means unknown."""
    piece = draw_piece(rng, ("flac", "flac24"))
    factor, said = _lie(rng, piece)
    if rng.random() < 0.15:
        factor, said = 0.0, Said.NOTHING
    data = bytearray(piece.data)
    samples = int(piece.seconds * piece.rate_hz * factor)
    data[21] = data[21] & 0xF0 | samples >> 32 & 0x0F
    data[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return damaged(piece, "FLAC's total of samples lies", f"x {factor:g}", bytes(data), said)


def _granule(rng: Generator) -> Generated:
    """The last page's granule position."""
    piece = draw_piece(rng, ("vorbis", "opus", "ogg_flac"))
    factor, said = _lie(rng, piece)
    place, granule = last_page(piece.data)
    data = with_granule(piece.data, place, int(granule * factor))
    # A lower position in the last page rightly cuts the sound of that page.
    slack = 1.2 if factor < 1 else 0.1
    return damaged(piece, "Ogg's last granule lies", f"x {factor:g}", data, said, slack)


def _wav(rng: Generator) -> Generated:
    """The sizes of RIFF and data."""
    piece = draw_piece(rng, ("wav", "wav24", "wav_float"))
    data = bytearray(piece.data)
    at = piece.data.index(b"data", 12) + 4
    (size,) = struct.unpack_from("<I", data, at)
    factor = pick(rng, (0.0, *_FEWER[1:], *_MORE[:3], float("inf")))
    which = pick(rng, ("RIFF", "data", "both"))
    streamed = factor in (0.0, float("inf"))
    # Whole frames, as a program that writes the header first would state them.
    frame = piece.channels * {"wav": 2, "wav24": 3, "wav_float": 4}[piece.format]
    stated = 2**32 - 1 if factor == float("inf") else int(size * factor) // frame * frame
    if which != "RIFF":
        struct.pack_into("<I", data, at, stated)
    if which != "data":
        struct.pack_into("<I", data, 4, min(stated + at - 4, 2**32 - 1))
    said = Said.NOT_MISSING if streamed or factor < 1 else Said.MISSING if which != "RIFF" else Said.ANYTHING
    partial = which != "RIFF" and 0 < factor < 1
    return damaged(piece, "WAV's sizes lie", f"{which} x {factor:g}", bytes(data), said, may_be_partial=partial)


def _fact(rng: Generator) -> Generated:
    """The count of samples in the chunk `fact`."""
    piece = draw_piece(rng, ("wav_float", "wav_ulaw"), rates_hz=(44100,))
    data = bytearray(piece.data)
    at = piece.data.index(b"fact", 12) + 8
    factor = pick(rng, (0.0, *_FEWER, *_MORE))
    (count,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at, int(count * factor))
    return damaged(piece, "WAV's fact lies", f"x {factor:g}", bytes(data), Said.NOT_MISSING)


def _aiff(rng: Generator) -> Generated:
    """The count of frames in COMM, or the size of SSND."""
    piece = draw_piece(rng, ("aiff",))
    data = bytearray(piece.data)
    which = pick(rng, ("COMM", "SSND"))
    at = piece.data.index(which.encode(), 12) + (10 if which == "COMM" else 4)
    factor = pick(rng, _FEWER[1:] + _MORE)
    (count,) = struct.unpack_from(">I", data, at)
    struct.pack_into(">I", data, at, int(count * factor) & ~3)
    said = Said.NOT_MISSING if factor < 1 else Said.MISSING if which == "SSND" else Said.ANYTHING
    partial = which == "SSND" and factor < 1
    return damaged(piece, "AIFF's counts lie", f"{which} x {factor:g}", bytes(data), said, may_be_partial=partial)


def _at(signature: bytes, offset: int, form: str, after: int = 0) -> Callable[[bytes], tuple[int, str]]:
    """Find a field by the bytes of its box."""
    return lambda data: (data.index(signature, after) + offset, form)


_STATED: Final[Mapping[str, Callable[[bytes], tuple[int, str]]]] = {
    "m4a": _at(b"mdhd", 20, ">I"),
    "m4a_index_first": _at(b"mvhd", 20, ">I"),
    "alac": _at(b"mdhd", 20, ">I"),
    # The file properties of ASF: their GUID, then the play duration in units of 100 ns.
    "wma": _at(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), 64, "<Q"),
    "matroska": _at(b"\x44\x89\x88", 3, ">d"),
    "webm": _at(b"\x44\x89\x88", 3, ">d"),
    "wavpack": _at(b"wvpk", 12, "<I"),
    "au": _at(b".snd", 8, ">I"),
}


def _stated(rng: Generator) -> Generated:
    """The length that the head of another container states."""
    piece = draw_piece(rng, tuple(_STATED), rates_hz=(48000,))
    at, form = _STATED[piece.format](piece.data)
    factor, said = _lie(rng, piece)
    data = bytearray(piece.data)
    (count,) = struct.unpack_from(form, data, at)
    struct.pack_into(form, data, at, count * factor if form == ">d" else int(count * factor))
    if piece.format in ("m4a", "m4a_index_first", "alac"):
        # The table of samples is complete, so nothing is missing.
        said = Said.NOT_MISSING if factor < 1 else Said.ANYTHING
    partial = piece.format == "au" and factor < 1
    return damaged(piece, "length of another header lies", f"x {factor:g}", bytes(data), said, may_be_partial=partial)


KINDS: Final[Mapping[str, Kind]] = {
    "MP3 tag's counts lie": _mp3_tag,
    "FLAC's total of samples lies": _flac,
    "Ogg's last granule lies": _granule,
    "WAV's sizes lie": _wav,
    "WAV's fact lies": _fact,
    "AIFF's counts lie": _aiff,
    "length of another header lies": _stated,
}
