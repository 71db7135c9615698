"""Read a file in small blocks, never more than a bounded number of bytes, and gather the fields of its tags."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mgc.audio.source import ByteRange, Source

BLOCK_BYTES: Final = 1 << 12
"""Bytes that a reader asks for at a time. A usual tag without its pictures fits."""

MOST_READ_BYTES: Final = 1 << 18
"""Most bytes to read of one file. Pictures are skipped, so only a strange file needs more."""

MOST_VALUE_BYTES: Final = 1 << 16
"""Most bytes to read of one text. A longer one is cut."""

MOST_VALUES: Final = 256
"""Most values of one field."""

FIELDS: Final = {
    "genre": ("genre", "wmgenre", "gen", "tcon", "ignr"),
    "artist": ("artist", "author", "art", "tpe1", "iart"),
    "album_artist": ("albumartist", "wmalbumartist", "aart", "tpe2"),
    "album": ("album", "wmalbumtitle", "alb", "talb", "iprd"),
    "title": ("title", "nam", "tit2", "inam"),
    "date": ("date", "year", "wmyear", "day", "tdrc", "tyer", "icrd"),
    "musicbrainz_recording_id": ("musicbrainztrackid",),
    "musicbrainz_artist_id": ("musicbrainzartistid",),
    "musicbrainz_album_artist_id": ("musicbrainzalbumartistid",),
    "musicbrainz_release_id": ("musicbrainzalbumid",),
    "musicbrainz_release_group_id": ("musicbrainzreleasegroupid",),
}
"""Fields, and the keys that mean them in one format or another, in the form of `field_of`."""

_FIELD_OF: Final = {key: field for field, keys in FIELDS.items() for key in keys}

_CONTROL: Final = re.compile(r"[\x01-\x1f\x7f-\x9f\ufeff\s]+")


class LimitError(ValueError):
    """The file wants more bytes read than `MOST_READ_BYTES`."""


class Reader:
    """A source that is read in blocks, each once.

    Attributes:
        read_bytes: number of bytes read so far.
        failure: error of the source, or None. A parser may have swallowed it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._blocks: dict[int, bytes] = {}
        self.read_bytes = 0
        self.failure: Exception | None = None

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return self._source.size_bytes

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range, cut at the end of the file.

        Raises:
            LimitError: the file has used up its bytes.
        """
        size_bytes = self.size_bytes
        within = [ByteRange(max(start, 0), min(stop, size_bytes)) for start, stop in ranges]
        wanted = {
            number
            for start, stop in within
            if start < stop
            for number in range(start // BLOCK_BYTES, min(-(-stop // BLOCK_BYTES), start // BLOCK_BYTES + _MOST_BLOCKS))
        }
        self._fill(sorted(wanted.difference(self._blocks)))
        return [self._join(piece) for piece in within]

    def at(self, start: int, size_bytes: int) -> bytes:
        """Return some bytes of the file, fewer at its end."""
        return self.read([ByteRange(start, start + size_bytes)])[0]

    def _fill(self, numbers: list[int]) -> None:
        if self.failure is not None:
            raise self.failure
        if not numbers:
            return
        if (len(self._blocks) + len(numbers)) * BLOCK_BYTES > MOST_READ_BYTES:
            raise LimitError(f"its tags take more than {MOST_READ_BYTES} bytes")
        stretches: list[list[int]] = []
        for number in numbers:
            if stretches and stretches[-1][-1] == number - 1:
                stretches[-1].append(number)
            else:
                stretches.append([number])
        pieces = [ByteRange(each[0] * BLOCK_BYTES, (each[-1] + 1) * BLOCK_BYTES) for each in stretches]
        try:
            answers = self._source.read(pieces)
        except Exception as error:
            # A parser between here and the caller may take any error for a fault of the file.
            self.failure = error
            raise
        for stretch, data in zip(stretches, answers, strict=True):
            self.read_bytes += len(data)
            for place, number in enumerate(stretch):
                self._blocks[number] = data[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]

    def _join(self, piece: ByteRange) -> bytes:
        if piece.start >= piece.stop:
            return b""
        first = piece.start // BLOCK_BYTES
        numbers = range(first, -(-piece.stop // BLOCK_BYTES))
        data = b"".join(self._blocks[number] for number in numbers)
        return data[piece.start - first * BLOCK_BYTES : piece.stop - first * BLOCK_BYTES]


_MOST_BLOCKS: Final = MOST_READ_BYTES // BLOCK_BYTES + 1
"""Blocks of one range to count: one more than is allowed."""


class SourceStream(io.RawIOBase):
    """A source as a seekable file, for a parser that wants one."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source, self._place = source, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a byte."""
        place = (0, self._place, self._source.size_bytes)[whence] + offset
        if place < 0:
            raise ValueError("a seek before the start")
        self._place = place
        return place

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; 0 at the end."""
        view = memoryview(buffer).cast("B")
        (data,) = self._source.read([ByteRange(self._place, self._place + len(view))])
        view[: len(data)] = data
        self._place += len(data)
        return len(data)


def at(source: Source, start: int, size_bytes: int) -> bytes:
    """Return some bytes of a source, fewer at its end.

    Raises:
        ValueError: the place is before the start.
    """
    if start < 0:
        raise ValueError("a place before the start")
    return source.read([ByteRange(start, start + max(size_bytes, 0))])[0]


def number_at(source: Source, start: int, size_bytes: int, order: Any = "little") -> int:
    """Return an unsigned number of a source.

    Raises:
        ValueError: the file ends before it does.
    """
    data = at(source, start, size_bytes)
    if len(data) < size_bytes:
        raise ValueError("the file ends within a number")
    return int.from_bytes(data, order)


def field_of(key: str) -> str | None:
    """Return the field that a key of any format means, or None: `Album Artist`, `ALBUMARTIST` and `TPE2` are one."""
    return _FIELD_OF.get("".join(letter for letter in key.casefold() if letter.isascii() and letter.isalnum()))


class Fields(dict[str, list[str]]):
    """Values by field: `genre`, `artist` and the other keys of `FIELDS`."""

    def put(self, field: str | None, values: Iterable[object]) -> None:
        """Add the values of a field. Leaves out what is no text, and texts of blanks."""
        if field is None:
            return
        for value in values:
            for text in str(value).split("\0"):
                plain = clean(text)
                known = self.get(field, [])
                if plain and len(known) < MOST_VALUES:
                    self[field] = [*known, plain]

    def behind(self, other: Fields) -> None:
        """Take from another tag of the file the fields that are not known yet."""
        for field, values in other.items():
            self.setdefault(field, values)


def clean(text: str) -> str:
    """Return a text that any table can hold: one line, no control characters, no half of a surrogate pair."""
    plain = _CONTROL.sub(" ", text).strip()
    return plain if plain.isascii() else plain.encode("utf-8", "replace").decode("utf-8")
