"""Read FMA's tracks.csv: three header rows, free text with quotes and line breaks, lists of genre numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from mgc.errors import CatalogError


class Column(NamedTuple):
    """A column of tracks.csv, named by its first two header rows."""

    group: str
    name: str

    def __str__(self) -> str:
        return f"{self.group}.{self.name}".lstrip(".")


TRACK_ID: Final = Column("", "track_id")
ARTIST: Final = Column("artist", "id")
ALBUM: Final = Column("album", "id")
SPLIT: Final = Column("set", "split")
SUBSET: Final = Column("set", "subset")
DURATION: Final = Column("track", "duration")
GENRE_TOP: Final = Column("track", "genre_top")
GENRES_ALL: Final = Column("track", "genres_all")

NEEDED: Final = (ARTIST, ALBUM, SPLIT, SUBSET, DURATION, GENRE_TOP, GENRES_ALL)
"""Columns that mgc reads, besides the track's number, of the table's 52."""

_HEADER_ROWS: Final = 3

_BLOCK_BYTES: Final = 1 << 25
"""Bytes parsed at once; far more than the longest row, with its biography, takes."""

_SHOWN: Final = 100
"""Most characters of a wrong value that a message shows."""

_REMEDY: Final = "Take tracks.csv from fma_metadata.zip again."


@dataclass(frozen=True)
class Tracks:
    """The columns `NEEDED` and `TRACK_ID` as text, null where a field is empty.

    Attributes:
        where: path of the file, for messages.
        columns: the columns, all of the same length.
    """

    where: str
    columns: Mapping[Column, pa.Array]

    @classmethod
    def read(cls, data: bytes, where: str) -> Tracks:
        """Read the whole table.

        Raises:
            CatalogError: the header is not that of tracks.csv, a row has the wrong number of fields, or no row exists.
        """
        places, size = _header(data, where)
        if not data[size : size + 64].strip():
            raise CatalogError(f"{where}: there is no track. {_REMEDY}")
        wanted = [TRACK_ID, *NEEDED]
        names = [str(place) for place in range(len(places))]
        chosen = [names[places.index(column)] for column in wanted]
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(pa.py_buffer(data).slice(size)),
                # On one thread, error messages include the row number.
                pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=_BLOCK_BYTES),
                pa.csv.ParseOptions(newlines_in_values=True),
                pa.csv.ConvertOptions(
                    include_columns=chosen,
                    column_types=dict.fromkeys(chosen, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            raise CatalogError(
                f"{where}: cannot be read as CSV after the header: {str(error)[:300]}. {_REMEDY}"
            ) from None
        return cls(where, {column: table[name].combine_chunks() for column, name in zip(wanted, chosen, strict=True)})

    def text(self, column: Column, pattern: str, expected: str, required: bool = False) -> pa.Array:
        """Return a column after checking that all its non-empty values match a regular expression.

        Raises:
            CatalogError: a value does not match, or a required value is empty. The message names the row, the track and
                the column, as in all methods.
        """
        values = self.columns[column]
        fits = pc.fill_null(pc.match_substring_regex(values, pattern), not required)
        self._refuse_unless(fits, column, expected)
        return values

    def chosen(self, column: Column, meanings: Mapping[str, str], required: bool = False) -> pa.Array:
        """Return a column whose non-empty values are keys of `meanings`, with each value replaced by its meaning."""
        values = self.columns[column]
        place = pc.index_in(values, value_set=pa.array(list(meanings), pa.string()))
        fits = pc.is_valid(place)
        fits = fits if required else pc.or_(fits, pc.is_null(values))
        self._refuse_unless(fits, column, f"one of {', '.join(sorted(meanings))}")
        return pa.array(list(meanings.values()), pa.string()).take(place)

    def numbers(self) -> pa.Array:
        """Return the tracks' numbers, as text."""
        return self.text(TRACK_ID, "^[1-9][0-9]{0,5}$", "a number of up to six digits", required=True)

    def genre_lists(self, titles: Mapping[int, str]) -> pa.Array:
        """Return `track.genres_all` (such as `[21, 137]`) as titles; null for no genre."""
        texts = self.text(GENRES_ALL, r"^\[([0-9]+(, [0-9]+)*)?\]$", "a list of genre numbers such as [21, 137]")
        texts = pc.if_else(pc.equal(texts, "[]"), pa.scalar(None, pa.string()), texts)
        lists = pc.split_pattern(pc.utf8_trim(texts, "[]"), ", ")
        place = pc.index_in(lists.values, value_set=pa.array([str(number) for number in titles], pa.string()))
        if place.null_count:
            missing = pc.index(pc.is_null(place), True).as_py()
            row = int(np.searchsorted(lists.offsets.to_numpy(), missing, side="right")) - 1
            raise self._refusal(row, GENRES_ALL, f"of genres.csv's genres, which lack {lists.values[missing].as_py()}")
        named = pa.array(list(titles.values()), pa.string()).take(place)
        return pa.ListArray.from_arrays(lists.offsets, named, mask=pc.is_null(texts))

    def _refuse_unless(self, fits: pa.Array, column: Column, expected: str) -> None:
        row = pc.index(fits, False).as_py()
        if row >= 0:
            raise self._refusal(row, column, expected)

    def _refusal(self, row: int, column: Column, expected: str) -> CatalogError:
        track, value = self.columns[TRACK_ID][row].as_py(), self.columns[column][row].as_py()
        shown = "empty" if value is None else repr(value[:_SHOWN])
        return CatalogError(
            f"{self.where}: row {row + 1} after the header (track {track}): {column} is {shown}, not "
            f"{expected}. {_REMEDY}"
        )


def _header(data: bytes, where: str) -> tuple[list[Column], int]:
    """Return the columns in file order, the track's number first, and the size of the header in bytes."""
    stream = io.BytesIO(data)
    head = b"".join(stream.readline() for _ in range(_HEADER_ROWS))
    try:
        rows = list(csv.reader(io.StringIO(head.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(f"{where}: its header cannot be read as CSV: {error}. {_REMEDY}") from None
    expected = (
        "FMA's tracks.csv has three header rows: groups (album, artist, set, track), names, and track_id before empty "
        "fields"
    )
    if len(rows) != _HEADER_ROWS or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise CatalogError(f"{where}: {expected}. {_REMEDY}")
    groups, names, index = rows
    if groups[0] or names[0] or index[0] != "track_id" or any(index[1:]):
        raise CatalogError(f"{where}: {expected}. {_REMEDY}")
    columns = [TRACK_ID, *(Column(group, name) for group, name in zip(groups[1:], names[1:], strict=True))]
    wrong = [str(column) for column in NEEDED if columns.count(column) != 1]
    if wrong:
        raise CatalogError(f"{where}: the column(s) {', '.join(wrong)} are missing or repeated; {expected}. {_REMEDY}")
    return columns, len(head)
