"""Parts of a large listing. Each is a Parquet file that covers a range of keys, so a killed listing can continue."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import files
from cluster.storage.failures import explain
from cluster.storage.listing.facts import Survey
from cluster.storage.listing.sieve import Closed, Sieve
from cluster.storage.sealed import DamageError
from cluster.storage.uri import Uri
from mgc import schema

MAX_AGE_SECONDS: Final = 24 * 3600.0
"""Older parts are listed again, since the bucket may have changed."""

FACTS: Final = pa.schema([schema.CATALOG.field(name) for name in schema.CATALOG_REQUIRED])
"""The columns of a part."""

_KEY: Final = b"mgc_listing"
_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Part:
    """A file of a listing and the stretch of keys that it covers.

    Attributes:
        uri: the Parquet file; it holds the required columns of a catalog.
        after: the key before the first one covered.
        until: the last key covered, or None for all that follow.
        listed_at: the time of its first request, in seconds since 1970.
        keys: the number of keys seen, of any kind.
        tracks: the number of rows.
        survey: what was seen besides the tracks.
        closed: see `Sieve.closed`.
    """

    uri: Uri
    after: str
    until: str | None
    listed_at: float
    keys: int
    tracks: int
    survey: Survey
    closed: tuple[Closed, Closed] | None


def write_part(
    folder: Uri, rows: pa.Table, after: str, until: str | None, listed_at: float, keys: int, sieve: Sieve
) -> Part:
    """Write a part, completely or not at all.

    Args:
        folder: the folder of the listing.
        rows: the tracks, with the columns `FACTS`.
        after: see `Part`, also for the next three.
        until: the last key covered.
        listed_at: the time of the first request.
        keys: the number of keys.
        sieve: the sieve that all keys of the part, and no others, have passed.
    """
    uri = folder / f"part-{uuid.uuid4().hex}.parquet"
    part = Part(uri, after, until, listed_at, keys, rows.num_rows, sieve.survey, sieve.closed)
    facts = {**asdict(part), "survey": sieve.survey.to_json()}
    del facts["uri"]
    files.write_table(uri, rows.replace_schema_metadata({_KEY: json.dumps(facts).encode()}))
    return part


def trusted_parts(folder: Uri) -> tuple[list[Part], int]:
    """Read the parts in a folder and delete those that are too old. Return the others, and the number deleted.

    Leaves out damaged parts, so their keys are listed again.
    """

    def read(uri: Uri) -> Part | None:
        try:
            facts = json.loads((files.read_table(uri).schema.metadata or {}).get(_KEY, b"null"))
        except DamageError:
            return None
        if not facts:
            return None
        closed = facts["closed"] and tuple(map(tuple, facts["closed"]))
        return Part(**{**facts, "uri": uri, "survey": Survey.from_json(facts["survey"]), "closed": closed})

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        uris = [uri for uri in files.list_uris(folder) if uri.name.endswith(".parquet")]
        found = [part for part in threads.map(read, uris) if part is not None]
    now = time.time()
    old = [part for part in found if not 0 <= now - part.listed_at <= MAX_AGE_SECONDS]
    for part in old:
        files.delete(part.uri)
    return [part for part in found if part not in old], len(old)


def read_parts(parts: Sequence[Part]) -> Iterator[pa.Table]:
    """Yield the rows of each part in turn, with all columns of `schema.CATALOG`. Some parts are read ahead."""
    filled = [part for part in parts if part.tracks]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for first in range(0, len(filled), _AT_ONCE):
            yield from threads.map(_read, filled[first : first + _AT_ONCE])


def fit(parts: Sequence[Part]) -> tuple[list[Part], list[tuple[str, str | None]]]:
    """Return parts in order of keys, without those that overlap another, and the stretches that they leave out."""
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


def survey_of(parts: Sequence[Part]) -> Survey:
    """Return what parts in order saw; a hidden or excluded folder that goes on in the next part counts once."""
    total = Survey()
    last = None
    for part in parts:
        total.add(part.survey)
        if part.closed is not None:
            first, end = part.closed
            if first == last:
                total.passed_over[first[0]] -= 1
            last = end
    total.passed_over = +total.passed_over
    return total


def _read(part: Part) -> pa.Table:
    """Read the rows of a part, with all columns of a catalog."""
    with explain(part.uri, "read"):
        rows = pq.read_table(
            part.uri.path,
            filesystem=part.uri.filesystem,
            partitioning=None,
            schema=FACTS,
            page_checksum_verification=True,
        )
    columns = [
        rows[each.name] if each.name in FACTS.names else pa.nulls(rows.num_rows, each.type) for each in schema.CATALOG
    ]
    return pa.table(columns, schema=schema.CATALOG)
