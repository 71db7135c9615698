"""Genre, artist and album of a catalog's tracks from the files' own tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from cluster.session.progress import show_progress
from cluster.storage import files
from cluster.storage.tags import TaggedFile, TagReader
from cluster.storage.uri import Uri
from cluster.tables.catalog_changes import TAGGED, Beside, earlier_tags
from cluster.tables.roots import quote
from mgc import schema
from mgc.errors import CatalogError, StorageError
from mgc.tags.facts import facts_of, renew_ids
from mgc.tags.genre_names import (
    GenreNames,
    merge_aliases,
    most_frequent,
    read_aliases,
    read_tree,
    read_whitelist,
    shipped_aliases,
)
from mgc.units import format_count
from pipelines.catalogs.requests import TagsRequest
from pipelines.command.job import say

_FILES_AT_ONCE: Final = 512
"""Files after which the store is asked whether it is there at all, and the progress is shown."""

_NAMED: Final = 8
"""Spellings that a line names."""

_COUNTED: Final = 50
"""Spellings that a summary counts one by one."""

_MOST_WORDS: Final = 100_000
"""Spellings of a kind that are counted one by one."""

_MOST_SHOWN: Final = 80
"""Characters of a spelling to count and show."""

_Row = dict[str, Any]
"""Columns of one track: `artist_id`, `album_id` and those of `schema.CATALOG_TAGS`."""

_SAYS: Final = tuple(name for name in TAGGED.names if name not in schema.CATALOG_REQUIRED)


def read_names(request: TagsRequest) -> GenreNames:
    """Read the tables of genres that a request names.

    Raises:
        ConfigError: one of them is not what it should be.
        StorageError: one cannot be read.
    """
    aliases = shipped_aliases()
    if request.aliases is not None:
        aliases = merge_aliases(aliases, read_aliases(files.read_bytes(request.aliases), str(request.aliases)))
    wanted, tree = request.whitelist, request.tree
    return GenreNames(
        aliases,
        None if wanted is None else read_whitelist(files.read_bytes(wanted), str(wanted)),
        None if tree is None else read_tree(files.read_bytes(tree), str(tree)),
    )


class Tagging:
    """Adds to catalog rows what the tags of their files say, and counts it.

    Files that an earlier catalog has with the same content tag are not read again. Its genres follow the tables of now.

    Args:
        names: the genres that a tag may name.
        target: the catalog that will be written; the one that is there now is the earlier one.
        source: the source that is listed; None if only a part of it is, which takes nothing from an earlier catalog.
        is_listed: whether the listing is over. One that goes on meanwhile shows the progress itself.
        split_by: column by which the tracks are divided; None if they are not.
    """

    def __init__(
        self, names: GenreNames, target: Uri, source: Uri | None, is_listed: bool, split_by: str | None
    ) -> None:
        self._names, self._target, self._is_listed, self._split_by = names, target, is_listed, split_by
        self._earlier = None if source is None else self._open(source)
        self._unknown: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._counts: Counter[str] = Counter(
            dict.fromkeys(
                (
                    *("tags_read", "tags_kept", "genre_known", "genre_mapped", "genre_unknown", "genre_left_out"),
                    *("genre_missing", "tags_unreadable", "artist_missing"),
                ),
                0,
            )
        )
        self._faults: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._reader = self._stack.enter_context(TagReader())
        self._draw = self._stack.enter_context(show_progress("tags", "files", None)) if self._is_listed else None
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield the rows with genres, artists and the columns of `schema.CATALOG_TAGS`.

        Args:
            tables: rows of `schema.CATALOG` in order of track id.
        """
        for table in tables:
            yield self._add(table)

    def count(self) -> dict[str, JsonValue]:
        """Return counts for a summary. The five of a genre and `tags_unreadable` add up to all tracks."""
        unknown: dict[str, JsonValue] = dict(most_frequent(self._unknown, _COUNTED))
        left_out: dict[str, JsonValue] = dict(most_frequent(self._left_out, _COUNTED))
        return {**self._counts, "genre_unknown_by": unknown, "genre_left_out_by": left_out}

    def describe(self) -> list[str]:
        """Return what a person should know of the tags, one line each."""
        counts = self._counts
        left_out = f", {counts['genre_left_out']} left out by the whitelist" if counts["genre_left_out"] else ""
        lines = [
            f"genre of {format_count(counts['genre_known'], 'track')} known, {counts['genre_mapped']} mapped, "
            f"{counts['genre_unknown']} unknown{left_out}; {counts['genre_missing']} without a genre tag, "
            f"{counts['tags_unreadable']} unreadable"
        ]
        if counts["tags_kept"]:
            read = format_count(counts["tags_read"], "file")
            lines.append(f"tags of {read} read, {counts['tags_kept']} known from the last listing")
        if self._unknown:
            lines.append(f"unknown genres: {_most(self._unknown)}. Name them in a CSV for --aliases")
        if self._left_out:
            lines.append(
                f"left out by the whitelist: {_most(self._left_out)}. Add them there, or below others in --tree"
            )
        if self._names.strangers:
            shown = [quote(name) for name in self._names.strangers[:_NAMED]]
            more = ["…"] if len(self._names.strangers) > _NAMED else []
            lines.append(f"only the whitelist knows {', '.join(shown + more)}; check the spelling")
        if counts["artist_missing"]:
            left = ": the split by artist_id leaves them out" if self._split_by == "artist_id" else ""
            lines.append(f"without an artist: {format_count(counts['artist_missing'], 'track')}{left}")
        lines += [f"tags not read: {fault}" for fault in self._faults]
        return lines

    def _open(self, source: Uri) -> Beside | None:
        try:
            return earlier_tags(self._target, source)
        except (CatalogError, StorageError) as error:
            say(f"tags are not taken from the earlier catalog: {error}")
            return None

    def _add(self, table: pa.Table) -> pa.Table:
        rows = self._kept(table)
        missing = [place for place, row in enumerate(rows) if row is None]
        wanted = table.select(["uri", "content_tag", "size_bytes"]).take(pa.array(missing, pa.int64())).to_pylist()
        for first in range(0, len(missing), _FILES_AT_ONCE):
            places = missing[first : first + _FILES_AT_ONCE]
            asked = [TaggedFile(*each.values()) for each in wanted[first : first + _FILES_AT_ONCE]]
            for place, tags in zip(places, self._reader.read(asked), strict=True):
                rows[place] = facts_of(tags)
                if tags.fault is not None and len(self._faults) < _NAMED:
                    self._faults.append(f"{quote(table['track_id'][place].as_py())}: {tags.fault}")
            self._counts["tags_read"] += len(places)
            self._show()
        self._show()
        return self._columns(table, [row for row in rows if row is not None])

    def _show(self) -> None:
        if self._draw is not None:
            kept = {"files": self._counts["tags_kept"]}
            self._draw({"files": self._counts["tags_read"] + kept["files"]}, {}, kept)

    def _kept(self, table: pa.Table) -> list[_Row | None]:
        """Return for each row what an earlier catalog says of the same file, or None."""
        nothing: list[_Row | None] = [None] * table.num_rows
        if self._earlier is None or not table.num_rows:
            return nothing
        try:
            old = self._earlier.up_to(table["track_id"][-1].as_py())
        except (CatalogError, StorageError) as error:
            say(f"tags are not taken from the last listing in {self._target}: {error}")
            self._earlier = None
            return nothing
        if old is None:
            return nothing
        old = old.cast(TAGGED)
        place = pc.index_in(table["track_id"], value_set=old["track_id"])
        beside = old.take(place)
        same = pc.and_(pc.equal(table["content_tag"], beside["content_tag"]), pc.is_null(beside["tag_error"]))
        same = pc.and_(pc.fill_null(same, False), pc.not_equal(table["content_tag"], ""))
        rows = beside.select(list(_SAYS)).to_pylist()
        kept = [renew_ids(row) if is_same else None for row, is_same in zip(rows, same.to_pylist(), strict=True)]
        self._counts["tags_kept"] += sum(row is not None for row in kept)
        return kept

    def _columns(self, table: pa.Table, rows: list[_Row]) -> pa.Table:
        genres = [self._genres(row) for row in rows]
        columns: Mapping[str, list[Any]] = {
            "genre_top": [each[0] if each else None for each in genres],
            "genres": [list(each) or None for each in genres],
            **{name: [row[name] for row in rows] for name in _SAYS},
        }
        for name, values in columns.items():
            at = table.schema.get_field_index(name)
            field = schema.CATALOG.field(name) if at >= 0 else schema.CATALOG_TAGS.field(name)
            array = pa.array(values, field.type)
            table = table.append_column(field, array) if at < 0 else table.set_column(at, field, array)
        return table

    def _genres(self, row: _Row) -> tuple[str, ...]:
        """Return the genres of a track, and count what its tags say."""
        text = row["genre_tag"]
        self._counts["artist_missing"] += row["artist_id"] is None
        if text is None:
            self._counts["genre_missing" if row["tag_error"] is None else "tags_unreadable"] += 1
            return ()
        reading = self._names.read(text)
        for words, counter in ((reading.unknown, self._unknown), (reading.left_out, self._left_out)):
            for word in {each[:_MOST_SHOWN] for each in words}:
                if word in counter or len(counter) < _MOST_WORDS:
                    counter[word] += 1
        if reading.genres:
            kind = "genre_mapped" if reading.mapped else "genre_known"
        elif reading.unknown:
            kind = "genre_unknown"
        else:
            kind = "genre_left_out" if reading.left_out else "genre_missing"
        self._counts[kind] += 1
        return reading.genres


def _most(words: Counter[str]) -> str:
    """Return the most frequent spellings with their counts, for a line."""
    shown = [f"{count} {quote(word)}" for word, count in most_frequent(words, _NAMED)]
    return ", ".join([*shown, "…"] if len(words) > _NAMED else shown)
