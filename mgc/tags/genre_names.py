"""From the text of a genre tag to genres: ID3v1's numbers, separators, spellings, a list of wanted genres, a tree."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final

from mutagen.id3 import TCON

from mgc.errors import ConfigError
from mgc.tags.own_tables import decode, find_circle, read_lines
from mgc.tags.reader import clean

ID3V1: Final[Mapping[str, str]] = {
    **{str(number): name for number, name in enumerate(TCON.GENRES)},
    "RX": "Remix",
    "CR": "Cover",
}
"""Genres by their number in ID3v1, as Winamp extended it; and ID3v2's two letters for a remix and a cover."""

MOST_GENRES: Final = 32
"""Most genres of one track."""

_REFERENCES: Final = re.compile(r"\((?P<number>\d{1,3}|RX|CR)\)")
_ALWAYS: Final = re.compile(r"[\0;\n]+")
"""Separators that no genre has in its name."""

_SOMETIMES: Final = re.compile(r"\s*[/,\\|]\s*")
"""Separators that also occur in names, such as `Hip-Hop/Rap`."""

_AND: Final = re.compile(r"[&+]|(?<=\s)(?:n|und|et|y)(?=\s)")


@lru_cache(maxsize=1 << 14)
def key_of(name: str) -> str:
    """Return what two spellings of one genre have in common: `Hip Hop`, `hip-hop` and `HIPHOP` have one key."""
    folded = unicodedata.normalize("NFKC", name).casefold().replace("'", "")
    key = "".join(letter for letter in _AND.sub(" and ", folded) if letter.isalnum() or letter == "#")
    return key or folded.strip()


def parts_of(name: str) -> tuple[str, ...]:
    """Return the keys of a name's parts and the separators between them: `Hip-Hop / Rap` is `Hip-Hop/Rap`."""
    separators = (found.group().strip() for found in _SOMETIMES.finditer(name))
    return (*map(key_of, _SOMETIMES.split(name)), *separators)


@dataclass(frozen=True)
class Reading:
    """What the text of a genre tag says.

    Attributes:
        genres: known genres, each once, in the order of the text.
        mapped: whether the first of them is not the one that the text names: an alias, or an ancestor in the tree.
        unknown: words of the text that are no known genre.
        left_out: words of the text that mean a known genre which the whitelist lacks.
    """

    genres: tuple[str, ...] = ()
    mapped: bool = False
    unknown: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class GenreNames:
    """The genres that a tag may name, and how they are spelled.

    Args:
        aliases: genres by other spellings; an empty genre says that the spelling says nothing (`Other`).
        whitelist: the only genres to keep; None keeps every known one.
        parents: the parent of each genre of a tree. A genre that the whitelist lacks becomes its nearest ancestor that
            it has.

    Raises:
        ConfigError: the tree has a circle, or the whitelist is empty.
    """

    def __init__(
        self,
        aliases: Mapping[str, str],
        whitelist: Sequence[str] | None = None,
        parents: Mapping[str, str] | None = None,
    ) -> None:
        tree = parents or {}
        if whitelist is not None and not whitelist:
            raise ConfigError("the whitelist names no genre; write one a line.")
        self._parents = {key_of(name): parent for name, parent in tree.items()}
        if circle := _find_circle(tree):
            raise ConfigError(f"the tree of genres has a circle: {' -> '.join(circle)}. Correct one of these parents.")
        self._aliases = {key_of(name): genre for name, genre in aliases.items()}
        self._wanted = None if whitelist is None else {key_of(name): name for name in whitelist}
        names = [*ID3V1.values(), *tree, *tree.values(), *filter(None, aliases.values()), *(whitelist or ())]
        # A later spelling wins: the whitelist's is a person's own.
        self._names = {key_of(name): name for name in names}
        self._joined = {parts_of(name) for name in (*names, *aliases) if _SOMETIMES.search(name)}
        # A catalog has few texts, each many times.
        self._remembered = lru_cache(maxsize=1 << 14)(self._read)
        self.strangers = self._strangers(aliases, tree, whitelist or ())
        """Genres of the whitelist that no alias, no tree and no ID3 tag knows. They may be misspelled."""

    def read(self, text: str) -> Reading:
        """Return the genres that the text of a tag names."""
        return self._remembered(text)

    def _read(self, text: str) -> Reading:
        genres: dict[str, bool] = {}
        unknown: dict[str, None] = {}
        left_out: dict[str, None] = {}
        for word in self._words(text):
            alias = self._aliases.get(key_of(word))
            genre, mapped = self._resolve(word, alias)
            if alias == "" and not genre:
                continue
            if genre is None:
                (left_out if alias or key_of(word) in self._names else unknown)[word] = None
            elif len(genres) < MOST_GENRES:
                genres.setdefault(genre, mapped)
        return Reading(tuple(genres), next(iter(genres.values()), False), tuple(unknown), tuple(left_out))

    def _resolve(self, word: str, alias: str | None) -> tuple[str | None, bool]:
        """Return the genre that a word means, or None; and whether it is another than the word names."""
        key = key_of(word)
        if self._wanted is None:
            return (self._names.get(key), False) if alias is None else (alias, key_of(alias) != key)
        if key in self._wanted:
            return self._wanted[key], False
        if alias is not None and key_of(alias) in self._wanted:
            return self._wanted[key_of(alias)], True
        for name in (word, alias):
            for above in self._ancestors(name):
                if above in self._wanted:
                    return self._wanted[above], True
        return None, False

    def _ancestors(self, name: str | None) -> Iterator[str]:
        key = None if name is None else key_of(name)
        while key is not None and key in self._parents:
            key = key_of(self._parents[key])
            yield key

    def _words(self, text: str) -> Iterator[str]:
        """Yield the words of a text, one for each genre that it may mean."""
        for piece in _ALWAYS.split(text):
            rest = piece.strip()
            while found := _REFERENCES.match(rest):
                rest = rest[found.end() :].strip()
                if name := ID3V1.get(_number(found["number"])):
                    yield name
            # ID3v2.3 writes a word that begins with a parenthesis with two.
            rest = rest[1:] if rest.startswith("((") else rest
            if rest:
                yield from self._divide(rest)

    def _divide(self, text: str) -> Iterator[str]:
        """Divide a text at slashes and commas, but not within a name that means a genre: the longest name wins."""
        separators = [found.span() for found in _SOMETIMES.finditer(text)]
        starts = [0, *(stop for _, stop in separators)]
        stops = [*(start for start, _ in separators), len(text)]
        place = 0
        while place < len(starts):
            until = min(place + _MOST_PARTS, len(starts)) - 1
            while until > place and not self._means(text[starts[place] : stops[until]]):
                until -= 1
            word = text[starts[place] : stops[until]].strip()
            if word:
                yield ID3V1.get(_number(word), word)
            place = until + 1

    def _means(self, name: str) -> bool:
        """Return whether a name with a separator is written so in a table, and means a genre that is wanted."""
        parts = parts_of(name)
        return parts in self._joined and self._resolve(name, self._aliases.get(key_of(name)))[0] is not None

    def _strangers(
        self, aliases: Mapping[str, str], tree: Mapping[str, str], whitelist: Sequence[str]
    ) -> tuple[str, ...]:
        known = {key_of(name) for name in (*ID3V1.values(), *aliases, *aliases.values(), *tree, *tree.values())}
        return tuple(name for name in whitelist if key_of(name) not in known)


_MOST_PARTS: Final = 4
"""Most parts between separators that one genre's name may have."""


def _number(word: str) -> str:
    """Return a word as `ID3V1` has it if it is a number: 017 is 17."""
    return word.lstrip("0") or "0" if word.isascii() and word.isdigit() else word


def _find_circle(tree: Mapping[str, str]) -> list[str]:
    """Return the genres of a circle, the first one also at the end, as they are spelled; [] if there is none."""
    keys = find_circle({key_of(name): key_of(parent) for name, parent in tree.items()})
    spelled = {key_of(name): name for name in tree}
    return [spelled[key] for key in (*keys, *keys[:1])]


def shipped_aliases() -> dict[str, str]:
    """Return the aliases that come with mgc."""
    table = files("mgc.tags").joinpath("genre_aliases.csv")
    return read_aliases(table.read_bytes(), "mgc/tags/genre_aliases.csv")


def read_aliases(data: bytes, where: str) -> dict[str, str]:
    """Read a CSV of `spelling,genre`. A genre may be empty: the spelling then says nothing.

    Args:
        data: the file, UTF-8.
        where: its place, for messages.

    Raises:
        ConfigError: it is no such file, or one spelling has two genres.
    """
    found: dict[str, tuple[str, str]] = {}
    for line, (spelling, genre) in _pairs(data, ("spelling", "genre"), where):
        before = found.setdefault(key_of(spelling), (spelling, genre))
        if before[1] != genre:
            raise ConfigError(
                f"{where}, line {line}: {spelling!r} means {genre!r}, and {before[0]!r} above means {before[1]!r}; "
                "they are one spelling. Keep one of the lines."
            )
    return dict(found.values())


def merge_aliases(shipped: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return all aliases; a person's own replace those of the same spelling."""
    replaced = {key_of(spelling) for spelling in own}
    return {name: genre for name, genre in shipped.items() if key_of(name) not in replaced} | dict(own)


def read_tree(data: bytes, where: str) -> dict[str, str]:
    """Read a CSV of `genre,parent`. A genre without a parent is at the top.

    Args:
        data: the file, UTF-8.
        where: its place, for messages.

    Raises:
        ConfigError: it is no such file, one genre has two parents, or genres are below each other in a circle.
    """
    found: dict[str, tuple[str, str]] = {}
    lines: dict[str, int] = {}
    for line, (genre, parent) in _pairs(data, ("genre", "parent"), where):
        lines.setdefault(genre, line)
        before = found.setdefault(key_of(genre), (genre, parent))
        if key_of(before[1]) != key_of(parent):
            raise ConfigError(
                f"{where}, line {line}: {genre!r} is below {parent!r}, and above it is below {before[1]!r}; a genre "
                "has one parent. Keep one of the lines."
            )
    tree = {genre: parent for genre, parent in found.values() if parent}
    if circle := _find_circle(tree):
        raise ConfigError(
            f"{where}, line {lines[circle[0]]}: the genres are below each other in a circle, {' -> '.join(circle)}; "
            "correct one of these parents."
        )
    return tree


def read_whitelist(data: bytes, where: str) -> tuple[str, ...]:
    """Read a text file of one genre a line. Empty lines and those that begin with `#` say nothing.

    Args:
        data: the file, UTF-8.
        where: its place, for messages.

    Raises:
        ConfigError: it is not UTF-8, or names no genre.
    """
    lines = (clean(line) for line in decode(data, where).splitlines())
    named = {key_of(line): line for line in lines if line and not line.startswith("#")}
    if not named:
        raise ConfigError(f"{where}: the whitelist names no genre; write one a line.")
    return tuple(named.values())


def _pairs(data: bytes, header: tuple[str, str], where: str) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield the two columns of a CSV with the number of each line."""
    lines = read_lines(decode(data, where), where)
    for line, names in itertools.islice(lines, 1):
        if tuple(name.lower() for name in names) != header:
            found = clean(", ".join(names))
            raise ConfigError(f"{where}, line {line}: the header is {found!r:.80}; it must be {','.join(header)}.")
    for line, values in lines:
        cells = [clean(value) for value in values]
        if len(cells) != 2 or not cells[0]:
            raise ConfigError(
                f"{where}, line {line}: {', '.join(cells)!r:.80} is not {header[0]} and {header[1]}; write two "
                'columns, with "quotes" around a name that has a comma.'
            )
        yield line, (cells[0], cells[1])


def most_frequent(words: Mapping[str, int], most: int) -> Iterable[tuple[str, int]]:
    """Return words with their counts, the most frequent first."""
    return sorted(words.items(), key=lambda item: (-item[1], item[0]))[:most]
