"""Files that another process reads again, and sources made of pieces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.audio.source import ByteRange, Held, Joined, LocalFile, Scanner, Source, SourceFile, take
from mgc.errors import AudioError, ErrorKind


class Failing:
    """A source that fails from a byte on."""

    size_bytes = 5_000_000

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        if ranges[0].start >= 2_000_000:
            raise AudioError(ErrorKind.FETCH_FAILED, "the line is cut")
        return [bytes(min(piece.stop, self.size_bytes) - piece.start) for piece in ranges]


def opened(path: Path) -> LocalFile:
    return LocalFile(str(path), os.open(path, os.O_RDONLY))


def whole(source: Source) -> bytes:
    return source.read([ByteRange(0, source.size_bytes)])[0]


def test_a_closed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    file = opened(path)
    for _ in range(2):
        assert file.read([ByteRange(2, 5), ByteRange(8, 20)]) == [b"234", b"89"]
        file.close()


@pytest.mark.parametrize("change", ["replaced", "longer", "gone"])
def test_a_file_that_changed_is_not_read(tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    file = opened(path)
    file.close()
    if change == "replaced":
        other = tmp_path / "other"
        other.write_bytes(b"9876543210")
        other.replace(path)
    elif change == "longer":
        path.write_bytes(b"0123456789!")
    else:
        path.unlink()
    for _ in range(2):
        with pytest.raises(AudioError) as caught:
            file.read([ByteRange(0, 3)])
        assert caught.value.kind is ErrorKind.FETCH_FAILED


@given(
    data=st.binary(max_size=200),
    cuts=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=5),
    between=st.binary(max_size=9),
    asked=st.tuples(st.integers(0, 500), st.integers(0, 500)),
)
def test_pieces_are_their_bytes(
    data: bytes, cuts: list[tuple[int, int]], between: bytes, asked: tuple[int, int]
) -> None:
    within = [ByteRange(min(cut), max(cut)) for cut in (tuple(min(each, len(data)) for each in cut) for cut in cuts)]
    pieces: list[ByteRange | bytes] = [*within, between]
    expected = b"".join(data[piece.start : piece.stop] for piece in within) + between

    class Remote(Held):
        """Held bytes that are not known to be held."""

    remote = Joined((Remote(data), ByteRange(0, len(data))))
    piece = ByteRange(min(asked), max(asked))
    for source in (Held(data), remote):
        taken = take(source, *pieces)
        assert taken.size_bytes == len(expected)
        assert taken.read([piece]) == [expected[piece.start : piece.stop]]


@given(
    data=st.binary(min_size=1, max_size=300),
    moves=st.lists(st.tuples(st.integers(-50, 400), st.sampled_from([0, 1, 2]), st.integers(0, 90)), max_size=20),
)
def test_a_file_for_c_libraries_reads_like_bytes(data: bytes, moves: list[tuple[int, int, int]]) -> None:
    file, place = SourceFile(Joined((Held(data), ByteRange(0, len(data))))), 0
    for offset, whence, count in moves:
        wanted = (0, place, len(data))[whence] + offset
        # A seek before the start stays where it is, as in C.
        place = wanted if wanted >= 0 else place
        assert file.seek(offset, whence) == place
        got = file.read(count)
        assert got == data[place : place + count]
        place += len(got)
    assert file.failure is None


def test_an_error_of_the_source_ends_the_file_and_is_kept() -> None:
    file = SourceFile(Failing())
    read = 0
    while piece := file.read(300_000):
        read += len(piece)
    assert 2_000_000 <= read < Failing.size_bytes
    assert isinstance(file.failure, AudioError)
    # A library that tries again gets nothing either.
    assert file.read(10) == b""


@given(data=st.binary(min_size=1, max_size=2_000), steps=st.lists(st.integers(1, 400), max_size=10))
def test_a_scanner_gives_what_lies_ahead(data: bytes, steps: list[int]) -> None:
    for source in (Held(data), Joined((Held(data), ByteRange(0, len(data))))):
        scanner, place = Scanner(source), 0
        for step in steps:
            got, at = scanner.ahead(place, 50)
            assert got[at : at + 50] == data[place : place + 50]
            place = min(len(data), place + step)
