"""Parts of a large listing: Parquet files that each cover a stretch of keys, so that a killed listing goes on."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import files
from cluster.storage.failures import explain
from cluster.storage.listing import HIDDEN, Sieve
from cluster.storage.uri import join, locate
from mgc import schema

MAX_AGE_SECONDS: Final = 24 * 3600.0
"""Parts listed longer ago are listed again: the bucket has changed meanwhile."""

FACTS: Final = pa.schema([schema.CATALOG.field(name) for name in schema.CATALOG_REQUIRED])
"""Columns of a part."""

_KEY: Final = b"mgc_listing"
_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Part:
    """What one file of a listing covers.

    Attributes:
        uri: of the Parquet file; it holds the required columns of a catalog.
        after: the keys covered come after this one.
        until: the last key covered, None for all that follow.
        listed_at: when its first page was asked for, in seconds since 1970.
        keys: seen, of whatever kind.
        tracks: rows.
        ignored: keys passed over.
        hidden: see `Sieve.hidden`.
    """

    uri: str
    after: str
    until: str | None
    listed_at: float
    keys: int
    tracks: int
    ignored: dict[str, int]
    hidden: tuple[str, str] | None


def write_part(
    folder_uri: str, rows: pa.Table, after: str, until: str | None, listed_at: float, keys: int, sieve: Sieve
) -> Part:
    """Write a part; it is there whole or not at all.

    Args:
        folder_uri: of the listing.
        rows: the tracks, with the columns `FACTS`.
        after: see `Part`, as for the next three.
        until: the last key covered.
        listed_at: when.
        keys: how many.
        sieve: that all keys of the part, and no others, have passed.
    """
    uri = join(folder_uri, f"part-{uuid.uuid4().hex}.parquet")
    part = Part(uri, after, until, listed_at, keys, rows.num_rows, {**sieve.ignored}, sieve.hidden)
    sink = pa.BufferOutputStream()
    told = {_KEY: json.dumps(asdict(part)).encode()}
    pq.write_table(rows.replace_schema_metadata(told), sink, compression="zstd")
    files.write_bytes(uri, sink.getvalue().to_pybytes())
    return part


def trusted_parts(folder_uri: str) -> tuple[list[Part], int]:
    """The parts in a folder, and how many others were deleted since they are too old."""
    location = locate(folder_uri)

    def told(uri: str) -> Part | None:
        with explain(uri, "read"), location.filesystem.open_input_file(locate(uri).path) as file:
            facts = json.loads((pq.read_schema(file).metadata or {}).get(_KEY, b"null"))
        hidden = facts and facts["hidden"] and tuple(facts["hidden"])
        return Part(**{**facts, "uri": uri, "hidden": hidden}) if facts else None

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        uris = [uri for uri in files.list_uris(folder_uri) if uri.endswith(".parquet")]
        found = [part for part in threads.map(told, uris) if part is not None]
    now = time.time()
    old = [part for part in found if not 0 <= now - part.listed_at <= MAX_AGE_SECONDS]
    for part in old:
        files.delete(part.uri)
    return [part for part in found if part not in old], len(old)


def read_parts(parts: Sequence[Part]) -> Iterator[pa.Table]:
    """The rows of parts, one after the other, with all columns of `schema.CATALOG`; some are read ahead."""
    filled = [part for part in parts if part.tracks]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for first in range(0, len(filled), _AT_ONCE):
            yield from threads.map(_read, filled[first : first + _AT_ONCE])


def fit(parts: Sequence[Part]) -> tuple[list[Part], list[tuple[str, str | None]]]:
    """Parts in order of keys, without those that overlap another, and the stretches that they leave out."""
    kept: list[Part] = []
    gaps: list[tuple[str, str | None]] = []
    covered: str | None = ""
    for part in sorted(parts, key=lambda each: each.after):
        if covered is None or part.after < covered:
            continue
        if part.after > covered:
            gaps.append((covered, part.after))
        kept.append(part)
        covered = part.until
    if covered is not None:
        gaps.append((covered, None))
    return kept, gaps


def ignored_in(parts: Sequence[Part]) -> Counter[str]:
    """The sum over parts in order; a hidden folder that goes on in the next part counts once."""
    total: Counter[str] = Counter()
    last = None
    for part in parts:
        total.update(part.ignored)
        if part.hidden is not None:
            first, end = part.hidden
            total[HIDDEN] -= first == last
            last = end
    return +total


def _read(part: Part) -> pa.Table:
    """The rows of a part with all columns of a catalog."""
    with explain(part.uri, "read"):
        location = locate(part.uri)
        rows = pq.read_table(location.path, filesystem=location.filesystem, partitioning=None, schema=FACTS)
    columns = [
        rows[each.name] if each.name in FACTS.names else pa.nulls(rows.num_rows, each.type) for each in schema.CATALOG
    ]
    return pa.table(columns, schema=schema.CATALOG)
