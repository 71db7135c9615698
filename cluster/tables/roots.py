"""The roots of a catalog: folders and prefixes below which its URIs must lie.

A catalog may come from anyone, and its `uri` column could name any file that this machine or its credentials can read.
So a job that listens compares every URI with the roots before it opens one, and refuses a catalog that leaves them. The
refusal says nothing about the file, not even whether it exists.

URIs are compared as text, in the form in which `cluster.storage.fetch` reads them:

- An `s3://` key is literal. `a/../b` is a key of its own, so a prefix of the text decides.
- A local path must be absolute and have no `..`, which would lead out of the root.
- A `file://` URI must also hold no escaped dot or slash, which could hide a `..`.
- Links are not resolved. Only someone who can write below the root can make a link there, and `mgc catalog` follows
  links too, so that music on a second disk can be part of a folder.
"""

from __future__ import annotations

import json
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from cluster.storage.uri import Uri
from mgc.errors import CatalogError, StorageError
from mgc.units import format_count

ROOTS_KEY: Final = b"mgc_roots"
"""Key of the entry of a catalog's metadata that names its roots: a JSON list of URIs."""

SOURCE_KEY: Final = b"mgc_source"
"""Key of the entry that names the listed source. With it, the rows are in order of track id, and complete except for
folders that could not be read."""

MOST_ROOTS: Final = 100
"""Most roots that a catalog may state."""

_ROOTS_SHOWN: Final = 3

SHOWN: Final = 120
"""Longest text of a catalog that a message quotes, in characters."""

_FILE: Final = "file://"

_UNRESERVED: Final = "/!$&'()*+,;=:@~"
"""Characters that a path in a URI may hold without escape, beside letters and digits. Some programs escape them."""


@dataclass(frozen=True)
class Roots:
    """Places below which a catalog's URIs must lie.

    Attributes:
        places: folders, prefixes or single files; without any, every URI is outside.
    """

    places: tuple[Uri, ...]

    def __str__(self) -> str:
        more = len(self.places) - _ROOTS_SHOWN
        shown = ", ".join(map(str, self.places[:_ROOTS_SHOWN]))
        return f"{shown} and {more} more" if more > 0 else shown

    def outside(self, uris: pa.Array) -> pa.BooleanArray:
        """Return which URIs lie below none of the roots.

        Args:
            uris: strings without nulls.
        """
        inside = pa.repeat(False, len(uris))
        local = False
        for place in self.places:
            local = local or not place.is_remote
            for text in _spellings(place):
                # The root of the disk ends in a slash already.
                below = pc.starts_with(uris, text if text.endswith("/") else f"{text}/")
                inside = pc.or_(inside, pc.or_(below, pc.equal(uris, text)))
        return pc.invert(pc.and_not(inside, _leads_out(uris)) if local else inside)


def _spellings(place: Uri) -> list[str]:
    """Return how a URI of this place may be written."""
    if place.is_remote:
        return [place.text]
    path = os.fsencode(place.path)
    escaped = {urllib.parse.quote_from_bytes(path, safe) for safe in ("/", _UNRESERVED)}
    # A path that is not UTF-8 cannot be in a table as it is.
    plain = [] if place.text.startswith(_FILE) else [place.path]
    return [*plain, *(_FILE + each for each in sorted(escaped))]


def _leads_out(uris: pa.Array) -> pa.BooleanArray:
    """Return which local URIs have a `..`, or an escape that may hide one. A name such as `...and justice` is neither.

    The plain searches come first because few catalogs need the slow ones.
    """
    found = pc.match_substring(uris, "/..")
    if pc.any(found, min_count=0).as_py():
        climbs = pc.match_substring_regex(uris, r"/\.\.(/|$)")
        found = pc.and_not(climbs, pc.starts_with(uris, "s3://"))
    escaped = pc.starts_with(uris, _FILE)
    if pc.any(escaped, min_count=0).as_py():
        hides = pc.match_substring_regex(uris, "(?i)%2[ef]")
        found = pc.or_(found, pc.and_(escaped, hides))
    return found


def roots_entry(roots: Sequence[Uri]) -> dict[bytes, bytes]:
    """Return the entry of a catalog's metadata that names its roots."""
    return {ROOTS_KEY: json.dumps([root.text for root in roots]).encode()} if roots else {}


def stated_roots(metadata: Mapping[bytes, bytes] | None, where: str) -> tuple[Uri, ...]:
    """Return the roots that a catalog states: those of its own SOURCE, or none if another program wrote it.

    Args:
        metadata: metadata of its schema.
        where: its URI, for the message.

    Raises:
        CatalogError: the entry is not what mgc writes there.
    """
    found = metadata or {}
    try:
        if ROOTS_KEY in found:
            texts = json.loads(found[ROOTS_KEY])
            if isinstance(texts, list) and len(texts) <= MOST_ROOTS and all(isinstance(text, str) for text in texts):
                return tuple(map(Uri.parse, texts))
        elif SOURCE_KEY in found:
            return (Uri.parse(found[SOURCE_KEY].decode()),)
        else:
            return ()
    except (ValueError, RecursionError, StorageError):
        pass
    key = (ROOTS_KEY if ROOTS_KEY in found else SOURCE_KEY).decode()
    raise CatalogError(f"{where}: its metadata {key} names no places; write the catalog again with `mgc catalog`.")


def refuse_outside(where: str, roots: Roots, outside: int, track_id: str, uri: str) -> NoReturn:
    """Refuse a catalog with tracks outside its roots.

    Args:
        where: URI of the catalog.
        roots: the allowed roots.
        outside: number of tracks outside.
        track_id: id of the first of them.
        uri: its URI. The message shows no more of it than a root that would allow it.

    Raises:
        CatalogError: always.
    """
    first = (
        f"{where}: {format_count(outside, 'track')} outside the allowed roots ({roots}), the first is {quote(track_id)}"
    )
    wanted = _enclosing(uri)
    if wanted is None:
        raise CatalogError(
            f"{first}; its uri is neither s3://bucket/key nor an absolute path without `..`. Correct the catalog."
        )
    raise CatalogError(
        f"{first} in {wanted}. If mgc may read there, name every root of the catalog with `--allow-root`, for example "
        f"`--allow-root {wanted}`."
    )


def quote(text: str) -> str:
    """Return a text of a catalog for a message: in quotes, on one line, and not too long."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


def _enclosing(uri: str) -> Uri | None:
    """Return the bucket or the folder of a URI; None if no root allows the URI."""
    try:
        place = Uri.parse(uri)
    except StorageError:
        return None
    found = Uri.of_key(place.bucket, "") if place.is_remote else place.parent
    allowed = pc.invert(Roots((found,)).outside(pa.array([uri])))
    return found if allowed[0].as_py() else None
