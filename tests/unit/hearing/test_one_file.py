"""Files at URIs, heard in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mgc.audio.source import ByteRange
from mgc.errors import AudioError, ErrorKind
from mgc.hearing.one_file import PyarrowFile
from tests.unit.small_bundle import bundle


@pytest.fixture
def song(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    path = tmp_path / "song of #1 20%.wav"
    soundfile.write(path, rng.uniform(-0.5, 0.5, 8000 * 5).astype(np.float32), 8000)
    return path


def test_a_uri_is_heard_as_the_path_is(song: Path) -> None:
    assert bundle().label(song.as_uri()) == bundle().label(song)
    np.testing.assert_array_equal(bundle().embed(song.as_uri()), bundle().embed(song))


def test_ranges_are_those_of_the_file(song: Path) -> None:
    data, source = song.read_bytes(), PyarrowFile(song.as_uri())
    assert source.size_bytes == len(data)
    end = len(data)
    ranges = [ByteRange(0, 10), ByteRange(7, 7), ByteRange(end - 5, end + 9), ByteRange(end + 3, end + 9)]
    assert source.read(ranges) == [data[start:stop] for start, stop in ranges]


@pytest.mark.parametrize(
    ("uri", "named"),
    [("file:///nowhere/song.mp3", "/nowhere/song.mp3"), ("gopher://me:secret@host/song.mp3", "gopher://")],
)
def test_what_cannot_be_read_says_where_without_credentials(uri: str, named: str) -> None:
    with pytest.raises(AudioError) as raised:
        bundle().label(uri)
    assert raised.value.kind is ErrorKind.FETCH_FAILED
    line = str(raised.value)
    assert named in line
    assert "secret" not in line
    assert "\n" not in line
