"""Streams that are glued together: a jingle and a song, the chunks of a broadcast. All of them are one recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from numpy.random import Generator

from tests.damage.draw import Kind, draw_piece, pick
from tests.damage.generated import Generated, Said, Truth
from tests.damage.pieces import Piece, join

_MP3: Final = ("mp3", "mp3_vbr", "mp3_320", "mp3_untagged", "mp3_vbr_untagged", "mp3_vbri")
_JOINT_SECONDS: Final = 0.04
"""Decoders differ by this much at each joint: padding, and whether a later tag's frame counts as sound."""

_RATES_HZ: Final = (22050, 32000, 44100, 48000)


def glue(pieces: Sequence[Piece], kind: str, between: bytes = b"", may_be_partial: bool = False) -> Generated:
    """Return the pieces one after the other."""
    slack = 0.1 + _JOINT_SECONDS * (len(pieces) - 1)
    truth = Truth(join(pieces), Said.NOT_MISSING, slack, slack, may_be_partial=may_be_partial)
    parts = [f"{piece.format} {piece.rate_hz} Hz {piece.channels} ch {piece.seconds:g} s" for piece in pieces]
    what = " + ".join(parts) if len(parts) <= 4 else f"{len(parts)} x {parts[0]}"
    what += f", {len(between)} bytes of tags between them" if between else ""
    return Generated(between.join(piece.data for piece in pieces), pieces[0].extension, kind, what, truth)


def _pair(rng: Generator, formats: Sequence[str], rates_hz: Sequence[int], channels: Sequence[int]) -> list[Piece]:
    """A short and a long piece, in any order, each of any of the rates and channels."""
    short = draw_piece(rng, formats, (3.0, 5.0), rates_hz, channels, group=1)
    long = draw_piece(rng, formats, (9.0, 20.0), rates_hz, channels, group=2)
    return [short, long] if rng.random() < 0.7 else [long, short]


def _same(formats: Sequence[str], kind: str, may_be_partial: bool = False) -> Kind:
    def generate(rng: Generator) -> Generated:
        rate_hz, channels = pick(rng, (32000, 44100, 48000)), pick(rng, (1, 2))
        return glue(_pair(rng, formats, (rate_hz,), (channels,)), kind, may_be_partial=may_be_partial)

    return generate


def _tags_between(rng: Generator) -> Generated:
    """An ID3v1 tag, an APE tag, or both behind the first MP3, as players leave them."""
    ape = b"APETAGEX\xd0\x07\x00\x00 \x00\x00\x00" + bytes(16)
    old = b"TAG" + b"Song".ljust(125, b"\0")
    return glue(_pair(rng, _MP3, (44100,), (2,)), "glued MP3, tags between", pick(rng, (ape, old, ape + old)))


def _other(formats: Sequence[str], kind: str, rates_hz: Sequence[int] = _RATES_HZ) -> Kind:
    def generate(rng: Generator) -> Generated:
        while True:
            pieces = _pair(rng, formats, rates_hz, (1, 2))
            if len({(piece.rate_hz, piece.channels) for piece in pieces}) > 1:
                return glue(pieces, kind)

    return generate


def _chunks(formats: Sequence[str], kind: str) -> Kind:
    def generate(rng: Generator) -> Generated:
        name, rate_hz, channels = pick(rng, formats), pick(rng, (44100, 48000)), pick(rng, (1, 2))
        count = int(rng.integers(4, 16))
        chunks = [
            draw_piece(rng, (name,), (2.0, 3.0), (rate_hz,), (channels,), group=3 + number) for number in range(count)
        ]
        return glue(chunks, kind)

    return generate


def _codecs(rng: Generator) -> Generated:
    """An Ogg chain whose links have different codecs."""
    first, second = rng.permutation(["vorbis", "opus", "ogg_flac"])[:2]
    pieces = [
        draw_piece(rng, (str(first),), (3.0, 6.0), (48000,), group=1),
        draw_piece(rng, (str(second),), (9.0, 14.0), (48000,), group=2),
    ]
    return glue(pieces, "glued Ogg, other codec", may_be_partial=True)


KINDS: Final[Mapping[str, Kind]] = {
    "glued MP3": _same(_MP3, "glued MP3"),
    "glued MP3, tags between": _tags_between,
    "glued MP3, other rate or channels": _other(_MP3[:5], "glued MP3, other rate or channels"),
    "glued MP3, many chunks": _chunks(("mp3", "mp3_vbr", "mp3_untagged"), "glued MP3, many chunks"),
    "chained Vorbis": _same(("vorbis",), "chained Vorbis"),
    "chained Vorbis, other rate or channels": _other(("vorbis",), "chained Vorbis, other rate or channels"),
    "chained Opus": _other(("opus",), "chained Opus", (48000, 24000, 16000)),
    "chained Ogg, many chunks": _chunks(("vorbis", "opus"), "chained Ogg, many chunks"),
    "chained FLAC in Ogg": _same(("ogg_flac",), "chained FLAC in Ogg"),
    "glued Ogg, other codec": _codecs,
    "glued FLAC": _same(("flac",), "glued FLAC"),
    "glued FLAC, other rate or channels": _other(("flac",), "glued FLAC, other rate or channels"),
    "glued WAV": _same(("wav", "wav_float"), "glued WAV", may_be_partial=True),
    "glued AAC": _same(("aac",), "glued AAC"),
    "glued AAC, other rate or channels": _other(("aac",), "glued AAC, other rate or channels"),
    "glued AAC, many chunks": _chunks(("aac",), "glued AAC, many chunks"),
    "glued MP2": _same(("mp2",), "glued MP2"),
    "glued AC-3": _same(("ac3",), "glued AC-3"),
}
