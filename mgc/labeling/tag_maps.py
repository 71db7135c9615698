"""Read maps from tags to genres: a person's CSV file, or one that comes with mgc.

The maps that come with mgc were written by the meaning of the words alone, before any score was looked at.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mgc.errors import ConfigError
from mgc.labeling.tags import Evidence, TagMap, Vocabulary
from mgc.taxonomy import Genre, Taxonomy

COLUMNS: Final = ("genre", "parent", "tag", "weight")
_REQUIRED: Final = ("genre", "tag")
_MOST_SHOWN: Final = 100
"""Most characters of a genre, and of any other text of the file in a message."""
_FOLDER: Final = Path(__file__).parent / "maps"


def shipped_maps(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the names of the maps that come with mgc for a vocabulary."""
    return tuple(sorted(path.name.partition(".")[0] for path in _FOLDER.glob(f"*.{vocabulary.name}.csv")))


def shipped_map(name: str, vocabulary: Vocabulary) -> tuple[Taxonomy, TagMap]:
    """Return a map that comes with mgc.

    Raises:
        ConfigError: there is none of this name for the vocabulary.
    """
    if name not in shipped_maps(vocabulary):
        known = ", ".join(shipped_maps(vocabulary)) or "none"
        raise ConfigError(
            f"taxonomy {name}: there is no such file, and no map of that name for the model's tags (those that come "
            f"with mgc: {known}); name a CSV file with the columns {', '.join(COLUMNS)}."
        )
    return read_tag_map((_FOLDER / f"{name}.{vocabulary.name}.csv").read_text("utf-8"), vocabulary, f"taxonomy {name}")


def read_tag_map(text: str, vocabulary: Vocabulary, where: str) -> tuple[Taxonomy, TagMap]:
    """Read a map from CSV.

    A genre with several tags has several lines. Lines that begin with # are comments. Spelling counts for genres; for
    tags, case does not.

    Args:
        text: the file, with a header: genre, tag, and if wanted parent and weight (1 where it is missing).
        vocabulary: what the outputs of the network mean.
        where: name of the file, for messages.

    Raises:
        ConfigError: the file is not such a map; the message names line and remedy.
    """
    # A comment keeps its line, so that the numbers in messages are those of the file.
    lines = ["" if line.lstrip().startswith("#") else line for line in text.removeprefix("\ufeff").splitlines()]
    reader = csv.reader(lines)
    header: list[str] = []
    parents: dict[str, str | None] = {}
    evidence: list[Evidence] = []
    by_case = {tag.casefold(): tag for tag in vocabulary.tags}
    for cells in _cells(reader, where):
        fields = [cell.strip() for cell in cells]
        if not any(fields):
            continue
        if not header:
            header = [field.lower() for field in fields]
            _check_header(header, where)
            continue
        place = f"{where}, line {reader.line_num}"
        if len(fields) > len(header):
            raise ConfigError(f"{place}: {len(fields)} values for {len(header)} columns; quote values with commas.")
        row = dict(zip(header, fields, strict=False))
        genre, parent = row["genre"], row.get("parent") or None
        if not genre or not row.get("tag"):
            raise ConfigError(f"{place}: a line needs a genre and a tag.")
        strange = next((name for name in (genre, parent or "") if name != _shown(name)), None)
        if strange is not None:
            raise ConfigError(f"{place}: {_shown(strange)!r} is no name of a genre; use up to {_MOST_SHOWN} letters.")
        known = parents.setdefault(genre, parent)
        if known != parent:
            raise ConfigError(f"{place}: {genre} has two parents, {known} and {parent}; keep one.")
        evidence.append(Evidence(genre, _find_tag(row["tag"], by_case, place), _weight(row.get("weight"), place)))
    if not parents:
        raise ConfigError(f"{where}: the file has no genres; it needs the columns {', '.join(COLUMNS)}.")
    try:
        taxonomy = Taxonomy(tuple(Genre(genre, parent) for genre, parent in parents.items()))
        return taxonomy, TagMap(vocabulary, taxonomy.names, tuple(evidence))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _cells(reader: Iterator[list[str]], where: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise ConfigError(f"{where}: this is no CSV file with the columns {', '.join(COLUMNS)} ({error}).") from None


def _shown(text: str) -> str:
    """Return a text of the file for a message, which is one line that a person can read."""
    printable = "".join(letter if letter.isprintable() else "�" for letter in text)
    return printable if len(printable) <= _MOST_SHOWN else f"{printable[:_MOST_SHOWN]}…"


def _check_header(header: list[str], where: str) -> None:
    missing = [name for name in _REQUIRED if name not in header]
    strange = [name for name in header if name not in COLUMNS]
    if missing or strange or len(set(header)) < len(header):
        raise ConfigError(f"{where}: its columns are {_shown(', '.join(header))}; they should be {', '.join(COLUMNS)}.")


def _find_tag(written: str, by_case: dict[str, str], place: str) -> str:
    tag = by_case.get(written.casefold())
    if tag is None:
        near = difflib.get_close_matches(written.casefold(), list(by_case), n=1, cutoff=0.6)
        hint = f"did you mean {by_case[near[0]]!r}?" if near else "`mgc show BUNDLE` lists them."
        raise ConfigError(f"{place}: the model has no tag '{_shown(written)}'; {hint}")
    return tag


def _weight(written: str | None, place: str) -> float:
    if not written:
        return 1.0
    try:
        return float(written)
    except ValueError:
        raise ConfigError(f"{place}: the weight '{_shown(written)}' is not a number.") from None
