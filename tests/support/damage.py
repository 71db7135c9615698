"""Damaged audio files: every way in which a catalog's files are found broken, drawn at random over good files.

What is right for such a file is not known: a decoder may give sound or an error. Where it is known, see `tests/damage`.
"""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.random import Generator
from PIL import Image

from tests.damage.junk import id3_tag
from tests.damage.ogg import last_page, with_granule
from tests.support.good_files import GoodFile


@dataclass(frozen=True)
class Damaged:
    """A damaged file. `name` is a path below the corpus folder: the damage's name, a slash, a file name."""

    name: str
    data: bytes
    description: str

    @property
    def damage(self) -> str:
        return self.name.partition("/")[0]


def damaged_files(count: int, seed: int, good: Sequence[GoodFile]) -> Iterator[Damaged]:
    """So many damaged files, each damage in turn; a file depends on its number and the seed only."""
    names = list(DAMAGES)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        damage = names[number % len(names)]
        spoiled = damaged_file(damage, good[int(rng.integers(len(good)))], good, rng)
        yield replace(spoiled, name=f"{damage}/{number:05d}-{spoiled.name}")


def damaged_file(damage: str, file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    """One file, damaged so; `name` is only that of the file."""
    return DAMAGES[damage](file, good, rng)


def flip_bit(data: bytes, seed: int, below: int = 0) -> bytes:
    """Any data with one bit flipped, anywhere or in the first bytes."""
    bit = random.Random(seed).randrange((below or len(data)) * 8)
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _truncated(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    reach = min(len(file.data), 3000) if rng.random() < 0.25 else len(file.data)
    size = int(rng.integers(1, reach))
    return Damaged(file.name, file.data[:size], f"the first {size} of {len(file.data)} bytes")


def _flipped(file: GoodFile, rng: Generator, flips: int, reach: int) -> Damaged:
    data = np.frombuffer(file.data, np.uint8).copy()
    places = rng.integers(min(len(data), reach), size=flips)
    np.bitwise_xor.at(data, places, np.left_shift(1, rng.integers(8, size=flips)).astype(np.uint8))
    return Damaged(file.name, data.tobytes(), f"{flips} bits flipped in the first {reach} of {len(data)} bytes")


def _few_flips(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    return _flipped(file, rng, int(rng.integers(1, 20)), len(file.data))


def _many_flips(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    return _flipped(file, rng, max(1, int(len(file.data) * rng.uniform(0.001, 0.1))), len(file.data))


def _header_flips(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    return _flipped(file, rng, int(rng.integers(1, 12)), int(rng.choice([48, 200, 1000])))


def _run(file: GoodFile, rng: Generator) -> tuple[int, int]:
    """Begin and end of a run of up to half the file."""
    size = int(len(file.data) * 10 ** rng.uniform(-3.5, -0.3)) + 1
    start = int(rng.integers(len(file.data) - size + 1))
    return start, start + size


def _zero_run(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    start, stop = _run(file, rng)
    data = file.data[:start] + bytes(stop - start) + file.data[stop:]
    return Damaged(file.name, data, f"zeros from byte {start} to {stop}")


def _deleted_run(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    start, stop = _run(file, rng)
    return Damaged(file.name, file.data[:start] + file.data[stop:], f"bytes {start} to {stop} are gone")


def _inserted_garbage(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    start, stop = _run(file, rng)
    data = file.data[:start] + rng.bytes(stop - start) + file.data[start:]
    return Damaged(file.name, data, f"{stop - start} random bytes inserted at byte {start}")


def _spliced(good: Sequence[GoodFile], rng: Generator, fits: Callable[[GoodFile, GoodFile], bool]) -> Damaged:
    """The head of one MP3 and the tail of another, half the time exactly at a frame of the second."""
    files = [file for file in good if file.extension == ".mp3"]
    pairs = [(one, two) for one in files for two in files if fits(one, two)]
    first, second = pairs[rng.integers(len(pairs))]
    end, start = (int(rng.uniform(0.1, 0.9) * len(file.data)) for file in (first, second))
    if rng.random() < 0.5:
        sound = sound_begins(second.data)
        start = max(second.data.find(second.data[sound : sound + 2], start), 0)
    data = first.data[:end] + second.data[start:]
    return Damaged(first.name, data, f"{first.name} to byte {end}, then {second.name} from byte {start}")


def _spliced_bit_rates(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    def fits(one: GoodFile, two: GoodFile) -> bool:
        same = (one.sample_rate_hz, one.channels) == (two.sample_rate_hz, two.channels)
        return same and one.bit_rate_kbps != two.bit_rate_kbps

    return _spliced(good, rng, fits)


def _spliced_sample_rates(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    return _spliced(good, rng, lambda one, two: one.sample_rate_hz != two.sample_rate_hz)


def _spliced_channels(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    return _spliced(good, rng, lambda one, two: one.channels != two.channels)


def _concatenated(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    same = [other for other in good if other.extension == file.extension]
    other = same[rng.integers(len(same))]
    return Damaged(file.name, file.data + other.data, f"followed by {other.name}")


def _concatenated_formats(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    different = [other for other in good if other.extension != file.extension]
    other = different[rng.integers(len(different))]
    return Damaged(file.name, file.data + other.data, f"followed by {other.name}")


def _id3_of_10_mb(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    size = 10_000_000
    # A picture frame of random bytes holds thousands of MPEG sync words; padding holds none.
    filled = rng.random() < 0.5
    frame_size = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    picture = b"APIC" + frame_size + b"\x00\x00" + b"\x00image/png\x00\x03\x00"
    body = picture + rng.bytes(size - 14) if filled else bytes(size)
    return Damaged(file.name, id3_tag(body) + file.data, f"behind 10 MB of {'picture' if filled else 'padding'}")


def _id3_lies(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    claims = (0, 10, len(file.data) // 2, len(file.data) + 5000, 2**28 - 1)
    claimed = claims[rng.integers(len(claims))]
    data = id3_tag(b"TIT2" + bytes(3000), claimed) + file.data
    return Damaged(file.name, data, f"behind an ID3 tag of 3,004 bytes that claims {claimed}")


def _wrong_extension(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    others = sorted({other.extension for other in good} - {file.extension})
    name = PurePosixPath(file.name).stem + others[rng.integers(len(others))]
    return Damaged(name, file.data, f"{file.extension} under the name {name}; the bytes are good")


def _claims_hours(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    able = [other for other in good if other.extension in _CLAIMS]
    file = able[rng.integers(len(able))]
    hours = float(rng.uniform(2, 12))
    data = _CLAIMS[file.extension](file, int(hours * 3600 * file.sample_rate_hz))
    return Damaged(file.name, data, f"its header claims {hours:.1f} hours")


def _mp3_claims(file: GoodFile, samples: int) -> bytes:
    data = bytearray(file.data)
    count = max(data.find(b"Xing"), data.find(b"Info")) + 8
    data[count : count + 4] = (samples // 1152).to_bytes(4, "big")
    return bytes(data)


def _wav_claims(file: GoodFile, samples: int) -> bytes:
    data = bytearray(file.data)
    at = data.find(b"data") + 4
    size = min(samples * file.channels * 2, 2**32 - 100)
    data[at : at + 4] = size.to_bytes(4, "little")
    data[4:8] = (size + 36).to_bytes(4, "little")
    return bytes(data)


def _flac_claims(file: GoodFile, samples: int) -> bytes:
    data = bytearray(file.data)
    data[21] = data[21] & 0xF0 | samples >> 32 & 0x0F
    data[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(data)


def _ogg_claims(file: GoodFile, samples: int) -> bytes:
    """The last page's granule position, with a checksum that fits: libogg drops a page whose checksum does not."""
    place, _ = last_page(file.data)
    return with_granule(file.data, place, samples)


_CLAIMS: Final[Mapping[str, Callable[[GoodFile, int], bytes]]] = {
    ".mp3": _mp3_claims,
    ".wav": _wav_claims,
    ".flac": _flac_claims,
    ".ogg": _ogg_claims,
    ".opus": _ogg_claims,
}


def sound_begins(data: bytes) -> int:
    """Where the first sound of a good file begins, or for formats without a header before it, byte 100."""
    if data[:3] == b"ID3":
        return 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    if data[:4] == b"RIFF":
        return data.find(b"data") + 8
    if data[:4] == b"fLaC":
        place, last = 4, False
        while not last:
            last, place = bool(data[place] & 0x80), place + 4 + int.from_bytes(data[place + 1 : place + 4], "big")
        return place
    if data[:4] == b"OggS":
        # The codec's head has a page of its own; the comment, and Vorbis' codebooks, share the second.
        return data.find(b"OggS", data.find(b"OggS", 4) + 4)
    if data[:4] == b"\x30\x26\xb2\x75":
        return int.from_bytes(data[16:24], "little")
    return 100


def _only_a_header(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    size = sound_begins(file.data) + (200 if file.extension == ".mp3" else 0)
    return Damaged(file.name, file.data[:size], f"its header only, {size} bytes")


def _only_tags(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    title = b"TIT2\x00\x00\x00\x05\x00\x00\x00Song"
    ape = b"APETAGEX" + (2000).to_bytes(4, "little") + (32).to_bytes(4, "little") + bytes(16)
    parts = [id3_tag(title + bytes(int(rng.integers(5000)))), ape, b"TAG" + b"Song".ljust(125, b"\x00")]
    kept = [part for part in parts if rng.random() < 0.7] or parts[:1]
    return Damaged(file.name, b"".join(kept), f"{len(kept)} tags and no sound")


def _text(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    line = b"This track is not available in your country.\n"
    return Damaged(file.name, line * int(rng.integers(1, 3000)), "text")


def _html(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    page = b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><body>%s</body></html>\n"
    return Damaged(file.name, page % (b"<p>No.</p>" * int(rng.integers(1, 2000))), "an HTML page")


def _png(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(256, size=(64, 64, 3), dtype=np.uint8)).save(stream, "PNG")
    return Damaged(file.name, stream.getvalue(), "a PNG picture")


def _compressed(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    return Damaged(file.name, zlib.compress(file.data, 1), f"{file.extension} in a zlib stream")


def _empty(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    return Damaged(file.name, b"", "no bytes")


def _zeros(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    size = int(rng.integers(1, 500_000))
    return Damaged(file.name, bytes(size), f"{size} zeros")


def _sync_noise(file: GoodFile, good: Sequence[GoodFile], rng: Generator) -> Damaged:
    """Sync words of MPEG audio (layers I to III) or of ADTS at random places, or as often as real frames have them."""
    words = (
        (b"\xff\xfb\x90\x64", 417),
        (b"\xff\xf3\x40\xc4", 208),
        (b"\xff\xfd\xa4\x04", 626),
        (b"\xff\xff\x70\x04", 192),
    )
    adts = (b"\xff\xf1\x50\x80\x2e\x7f\xfc", 371)
    word, frame = (*words, adts)[rng.integers(5)]
    noise = bytearray(rng.bytes(int(rng.integers(2000, 400_000))))
    regular = rng.random() < 0.5
    places = range(0, len(noise) - 8, frame) if regular else rng.integers(len(noise) - 8, size=len(noise) // frame)
    for place in places:
        noise[place : place + len(word)] = word
    return Damaged(
        file.name, bytes(noise), f"noise with the sync word {word[:4].hex()} {'each frame' if regular else 'at random'}"
    )


DAMAGES: Final[Mapping[str, Callable[[GoodFile, Sequence[GoodFile], Generator], Damaged]]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        _truncated,
        _few_flips,
        _many_flips,
        _header_flips,
        _zero_run,
        _deleted_run,
        _inserted_garbage,
        _spliced_bit_rates,
        _spliced_sample_rates,
        _spliced_channels,
        _concatenated,
        _concatenated_formats,
        _id3_of_10_mb,
        _id3_lies,
        _wrong_extension,
        _claims_hours,
        _only_a_header,
        _only_tags,
        _text,
        _html,
        _png,
        _compressed,
        _empty,
        _zeros,
        _sync_noise,
    )
}
"""What can be done to a file: (the file, all good files for damage that needs another one, the source of chance)."""
