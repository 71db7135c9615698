"""Bytes that are no sound, in front of a good file, behind it. None of the sound is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator

from tests.damage.draw import Kind, damaged, draw_piece, pick
from tests.damage.generated import Generated, Said

_MP3: Final = ("mp3", "mp3_vbr", "mp3_untagged", "mp3_320")


def id3_tag(body: bytes, claimed_bytes: int | None = None, syncsafe: bool = True) -> bytes:
    """Return an ID3v2.4 tag. Its size has four bytes of seven bits, or wrongly of eight."""
    size, bits = (len(body) if claimed_bytes is None else claimed_bytes), (7 if syncsafe else 8)
    return b"ID3\x04\x00\x00" + bytes(size >> shift * bits & (1 << bits) - 1 for shift in (3, 2, 1, 0)) + body


def picture(rng: Generator, size_bytes: int) -> bytes:
    """Return an ID3 frame with a picture of random bytes, which hold sync words."""
    frame = bytes(size_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"APIC" + frame + b"\x00\x00\x00image/png\x00\x03\x00" + rng.bytes(size_bytes)


def _size(rng: Generator) -> int:
    """1 byte to 10 MB, each order of magnitude as likely."""
    return int(10 ** rng.uniform(0, 7))


@dataclass(frozen=True)
class _Junk:
    """Bytes, what they are, and whether they claim some of the sound that follows: to skip that is no fault if said."""

    data: bytes
    what: str
    claims_sound: bool = False


def _zeros(rng: Generator) -> _Junk:
    size = _size(rng)
    return _Junk(bytes(size), f"{size} zeros")


def _random(rng: Generator) -> _Junk:
    size = _size(rng)
    return _Junk(rng.bytes(size), f"{size} random bytes")


def _lying_id3(rng: Generator) -> _Junk:
    size = _size(rng)
    filled = rng.random() < 0.5
    body = picture(rng, size) if filled else b"TIT2" + bytes(size)
    claimed = pick(rng, (0, 10, size // 2, 2 * size + 100))
    what = f"an ID3 tag of {len(body)} bytes that claims {claimed}"
    return _Junk(id3_tag(body, claimed), what, claims_sound=claimed > len(body))


def _unsafe_id3(rng: Generator) -> _Junk:
    body = picture(rng, _size(rng))
    return _Junk(id3_tag(body, syncsafe=False), f"an ID3 tag of {len(body)} bytes whose size is not syncsafe")


def _in_front(kind: str, formats: tuple[str, ...], junks: tuple[Callable[[Generator], _Junk], ...]) -> Kind:
    def generate(rng: Generator) -> Generated:
        piece = draw_piece(rng, formats)
        junk = pick(rng, junks)(rng)
        data = junk.data + piece.data
        return damaged(piece, kind, junk.what, data, Said.NOT_MISSING, may_be_partial=junk.claims_sound)

    return generate


def _claiming_id3(rng: Generator) -> Generated:
    """An ID3 tag that claims up to half of the sound behind it."""
    piece = draw_piece(rng, (*_MP3, "mp3_vbr_untagged", "aac"), (6.0, 9.0, 60.0))
    body = picture(rng, _size(rng) // 10) if rng.random() < 0.5 else b"TIT2" + bytes(_size(rng) // 10)
    claimed = len(body) + int(len(piece.data) * rng.uniform(0.02, 0.5))
    what = f"an ID3 tag of {len(body)} bytes that claims {claimed}"
    return damaged(piece, "ID3 that claims sound", what, id3_tag(body, claimed) + piece.data, Said.NOT_MISSING)


_PAGE: Final = b"<!DOCTYPE html>\n<html><head><title>502</title></head><body>%s</body></html>\n"


def _behind(rng: Generator) -> tuple[bytes, str]:
    size = int(10 ** rng.uniform(3.1, 5.5))
    ape = b"APETAGEX\xd0\x07\x00\x00" + size.to_bytes(4, "little") + b"\x01\x00\x00\x00\x00\x00\x00\x80" + bytes(8)
    junks = {
        "zeros": bytes(size),
        "random bytes": rng.bytes(size),
        "bytes of HTML": _PAGE % (b"<p>Bad gateway.</p>" * (size // 19)),
        "bytes of half an APE tag": ape + rng.bytes(size),
        "bytes of an ID3 tag": id3_tag(picture(rng, size)),
        "bytes of half an ID3 tag": id3_tag(picture(rng, size))[: size // 2 + 1100],
        "bytes of ID3v1 tags": (b"TAG" + b"Song".ljust(125, b"\0")) * (size // 128),
        "bytes of text": b"LYRICSBEGIN" + b"la la la\r\n" * (size // 10),
    }
    name = pick(rng, tuple(junks))
    return junks[name], f"{len(junks[name])} {name} behind it"


def _junk_behind(kind: str, formats: tuple[str, ...]) -> Kind:
    def generate(rng: Generator) -> Generated:
        piece = draw_piece(rng, formats)
        junk, what = _behind(rng)
        return damaged(piece, kind, what, piece.data + junk, Said.NOT_MISSING)

    return generate


_OTHERS: Final = ("flac", "wav", "vorbis", "opus", "aac")

KINDS: Final[Mapping[str, Kind]] = {
    "zeros before MP3": _in_front("zeros before MP3", _MP3, (_zeros,)),
    "random bytes before MP3": _in_front("random bytes before MP3", _MP3, (_random,)),
    "lying ID3 before MP3": _in_front("lying ID3 before MP3", _MP3, (_lying_id3, _unsafe_id3)),
    "ID3 that claims sound": _claiming_id3,
    "junk before FLAC": _in_front("junk before FLAC", ("flac",), (_zeros, _random, _lying_id3)),
    "junk before Ogg": _in_front("junk before Ogg", ("vorbis", "opus", "ogg_flac"), (_zeros, _random, _lying_id3)),
    "junk before WAV": _in_front("junk before WAV", ("wav",), (_zeros, _random, _lying_id3)),
    "junk before AAC": _in_front("junk before AAC", ("aac",), (_zeros, _random, _lying_id3)),
    "junk behind MP3": _junk_behind("junk behind MP3", (*_MP3, "mp3_vbr_untagged")),
    "junk behind others": _junk_behind("junk behind others", (*_OTHERS, "aiff", "m4a", "wma", "ogg_flac", "wavpack")),
}
