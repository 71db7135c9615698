"""Files that lie in their tags, or have none: nothing is raised, and little is read."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.audio.source import ByteRange, Held
from mgc.errors import AudioError, ErrorKind
from mgc.tags.asf import HEADER
from mgc.tags.reader import BLOCK_BYTES, MOST_READ_BYTES, clean
from mgc.tags.tags import read_tags
from tests.damage.junk import id3_tag
from tests.damage.kinds import generate
from tests.support.draws import draws
from tests.unit.tags.tagged_files import WRITERS, Counted


@pytest.mark.parametrize(
    "data", [b"", b"ID3", b"fLaC", b"OggS", b"RIFF", b"\0" * 500, b"\xff" * 9000, b"ID3\x04" * 4000]
)
def test_no_tags(data: bytes) -> None:
    assert read_tags(Held(data)).fields == {}


_APE = b"APETAGEX\xd0\x07\0\0"

HEADS = [b"", b"ID3\x03\0", b"ID3\x04\0", b"fLaC", b"OggS\0\2", b"RIFF", b"FORM", b"DSD ", b"\0\0\0\x20ftyp", HEADER]


@pytest.mark.draws
@settings(max_examples=draws(200), deadline=None)
@given(
    data=st.binary(max_size=400),
    head=st.sampled_from(HEADS),
    tail=st.sampled_from([b"", b"TAG" + bytes(125), _APE + bytes(20), _APE + b"\xff\0\0\0\xff\xff" + bytes(14)]),
)
def test_any_bytes(data: bytes, head: bytes, tail: bytes) -> None:
    tags = read_tags(Held(head + data + tail))
    assert all(clean(value) == value for values in tags.fields.values() for value in values)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("reads", [0, 1])
def test_an_error_of_the_source_is_none_of_the_file(kind: str, reads: int) -> None:
    class Failing(Counted):
        def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
            if self.asked >= reads:
                raise AudioError(ErrorKind.FETCH_FAILED, "gone")
            return super().read(ranges)

    source = Failing(WRITERS[kind]({"genre": ["Rock"], "artist": ["A"]}))
    if reads >= _reads(source.data):
        assert read_tags(source).fields["genre"] == ["Rock"]
        return
    with pytest.raises(AudioError, match="gone"):
        read_tags(source)


def _reads(data: bytes) -> int:
    source = Counted(data)
    read_tags(source)
    return source.asked


@pytest.mark.parametrize("kind", ["lying ID3 before MP3", "ID3 that claims sound", "junk behind MP3"])
@pytest.mark.parametrize("seed", range(3))
def test_tags_that_lie(kind: str, seed: int) -> None:
    tags = read_tags(Held(generate(kind, seed).data))
    assert tags.read_bytes <= 16 * BLOCK_BYTES


SWARMS = {
    "frames of ID3": id3_tag(b"TXXX\0\0\0\1\0\0\0" * 100_000),
    "blocks of FLAC": b"fLaC" + b"\1\0\0\0" * 300_000,
    "comments of FLAC": b"fLaC\x84\xff\xff\xff" + struct.pack("<II", 0, 2**32 - 1) + bytes(2**24),
    "pages of Ogg": b"".join(b"OggS\0\0" + bytes(21) for _ in range(50_000)),
    "boxes of MP4": b"\0\0\0\x08ftyp" + struct.pack(">I", 800_008) + b"moov" + b"\0\0\0\x08free" * 100_000,
    "boxes in boxes": b"\0\0\0\x08ftyp"
    + b"".join(struct.pack(">I", 80_000 - 8 * depth) + b"moov" for depth in range(10_000)),
    "objects of ASF": HEADER + struct.pack("<Q", 2**40) + bytes(6) + (bytes(16) + struct.pack("<Q", 24)) * 50_000,
    "chunks of RIFF": b"RIFF\0\0\0\0WAVE" + b"LIST\4\0\0\0INFO" * 50_000,
    "items of APE": (b"\0\0\0\0\0\0\0\0k\0" * 50_000)
    + b"APETAGEX"
    + struct.pack("<IIII", 2000, 500_032, 2**32 - 1, 0)
    + bytes(8),
}


@pytest.mark.parametrize("kind", SWARMS)
def test_a_swarm_of_nothing_takes_no_time(kind: str) -> None:
    started = time.process_time()
    tags = read_tags(Held(SWARMS[kind]))
    assert tags.read_bytes <= MOST_READ_BYTES
    assert not tags.fields
    assert time.process_time() - started < 5
