"""Read maps from tags to genres: a person's CSV file, or one that comes with mgc.

The maps that come with mgc were written by the meaning of the words alone, before any score was looked at.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from mgc.errors import ConfigError
from mgc.labeling.tags import Evidence, TagMap, Vocabulary
from mgc.tags.genre_names import key_of
from mgc.tags.own_tables import find_circle, read_lines
from mgc.taxonomy import Genre, Taxonomy

COLUMNS: Final = ("genre", "parent", "tag", "weight")
_REQUIRED: Final = ("genre", "tag")
_MOST_SHOWN: Final = 100
"""Most characters of a genre, and of any other text of the file in a message."""
_FOLDER: Final = Path(__file__).parent / "maps"


class _Draft(NamedTuple):
    """A genre's parent, and the line that says so first."""

    parent: str | None
    line: int


class _Weighed(NamedTuple):
    """How much a tag speaks for a genre, and the line that says so."""

    weight: float
    line: int


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

    A genre with several tags has several lines. Lines that begin with # are comments. Case does not count for tags. A
    genre is spelled in one way.

    Args:
        text: the file, with a header: genre, tag, and if wanted parent and weight (1 where it is missing).
        vocabulary: what the outputs of the network mean.
        where: name of the file, for messages.

    Raises:
        ConfigError: the file is not such a map; the message names line and remedy.
    """
    header: list[str] = []
    drafts: dict[str, _Draft] = {}
    evidence: dict[tuple[str, str], _Weighed] = {}
    by_case = {tag.casefold(): tag for tag in vocabulary.tags}
    for line, values in read_lines(text, where):
        if not header:
            header = [value.lower() for value in values]
            _check_header(header, f"{where}, line {line}")
            continue
        place = f"{where}, line {line}"
        if len(values) > len(header):
            raise ConfigError(f"{place}: {len(values)} values for {len(header)} columns; quote values with commas.")
        row = dict(zip(header, values, strict=False))
        genre, parent = row["genre"], row.get("parent") or None
        if not genre or not row.get("tag"):
            raise ConfigError(f"{place}: a line needs a genre and a tag.")
        strange = next((name for name in (genre, parent or "") if name != _shown(name)), None)
        if strange is not None:
            raise ConfigError(f"{place}: {_shown(strange)!r} is no name of a genre; use up to {_MOST_SHOWN} letters.")
        draft = drafts.setdefault(genre, _Draft(parent, line))
        if draft.parent != parent:
            raise ConfigError(
                f"{place}: {genre} is below {parent or 'nothing'}, and in line {draft.line} below "
                f"{draft.parent or 'nothing'}; write the same parent in both."
            )
        tag, weight = _find_tag(row["tag"], by_case, place), _weight(row.get("weight"), place)
        before = evidence.setdefault((genre, tag), _Weighed(weight, line))
        if before.line != line:
            raise ConfigError(f"{place}: line {before.line} has the tag {tag} for {genre} already; keep one of them.")
    if not drafts:
        raise ConfigError(f"{where}: the file has no genres; it needs the columns {', '.join(COLUMNS)}.")
    _check_genres(drafts, where)
    taxonomy = Taxonomy(tuple(Genre(genre, draft.parent) for genre, draft in drafts.items()))
    found = tuple(Evidence(genre, tag, each.weight) for (genre, tag), each in evidence.items())
    return taxonomy, TagMap(vocabulary, taxonomy.names, found)


def _check_genres(drafts: Mapping[str, _Draft], where: str) -> None:
    """Refuse genres that only their spelling tells apart, parents that are no genres, and circles."""
    spelled: dict[str, str] = {}
    for genre, draft in drafts.items():
        first = spelled.setdefault(key_of(genre), genre)
        if first != genre:
            raise ConfigError(
                f"{where}, line {draft.line}: {genre} is the {first} of line {drafts[first].line} in another spelling; "
                "spell both alike."
            )
    for genre, draft in drafts.items():
        if draft.parent is not None and draft.parent not in drafts:
            near = spelled.get(key_of(draft.parent))
            way_out = f"did you mean {near}?" if near else "give it a line of its own, or correct it."
            raise ConfigError(
                f"{where}, line {draft.line}: the parent {draft.parent} of {genre} is no genre; {way_out}"
            )
    circle = find_circle({genre: draft.parent for genre, draft in drafts.items() if draft.parent is not None})
    if circle:
        raise ConfigError(
            f"{where}, line {drafts[circle[0]].line}: the parents form a circle, {' -> '.join([*circle, circle[0]])}; "
            "correct one of them."
        )


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
        weight = float(written)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise ConfigError(f"{place}: the weight '{_shown(written)}' is not a positive number; write one like 0.5.")
    return weight
