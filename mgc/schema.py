"""Arrow schemas of all tables, catalog to embeddings. Each has a format version in its metadata.

Other programs may write catalogs and features; these schemas are the whole contract. A table without a version counts
as version 1.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from pydantic import JsonValue

from mgc.errors import CatalogError, FeaturesError

FORMAT_VERSION: Final = 1
"""Version of the table formats; a reader refuses a higher one."""

FEATURE_DTYPES: Final = ("uint8", "float16", "float32")
"""Types in which a feature's numbers may be stored; floats are little-endian."""

_VERSION_KEY: Final = b"mgc_format_version"
_FRONT_END_KEY: Final = b"mgc_front_end"
_NOTICES_KEY: Final = b"mgc_notices"

CATALOG: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("content_tag", pa.string(), nullable=False),
        pa.field("genre_top", pa.string()),
        pa.field("genres", pa.list_(pa.string())),
        pa.field("artist_id", pa.string()),
        pa.field("album_id", pa.string()),
        pa.field("split", pa.string()),
        pa.field("subset", pa.string()),
        pa.field("duration_seconds", pa.float64()),
    ],
    metadata={_VERSION_KEY: str(FORMAT_VERSION).encode()},
)
"""One row per track. `content_tag` changes when the bytes change: an ETag, or size and modification time."""

CATALOG_TAGS: Final = pa.schema(
    [
        pa.field("artist_name", pa.string()),
        pa.field("album", pa.string()),
        pa.field("title", pa.string()),
        pa.field("year", pa.int32()),
        pa.field("musicbrainz_recording_id", pa.string()),
        pa.field("musicbrainz_artist_id", pa.string()),
        pa.field("musicbrainz_album_artist_id", pa.string()),
        pa.field("musicbrainz_release_id", pa.string()),
        pa.field("musicbrainz_release_group_id", pa.string()),
        pa.field("genre_tag", pa.string()),
        pa.field("tag_error", pa.string()),
    ]
)
"""Further columns of a catalog whose files' own tags were read. Only `mgc catalog` and people read them.

`genre_tag` is the text of the genre tag as it is in the file, its values joined by `; `. `tag_error` is null if the
tags could be read.
"""

CATALOG_REQUIRED: Final = ("track_id", "uri", "size_bytes", "content_tag")

TRACK_FACTS: Final = ("genre_top", "genres", "artist_id", "album_id", "split", "subset")
"""Catalog columns that travel with the features, so that training needs no join."""

FEATURES: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("content_tag", pa.string(), nullable=False),
        pa.field("clip_index", pa.int32(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("features", pa.binary(), nullable=False),
        *(CATALOG.field(name) for name in TRACK_FACTS),
    ],
    metadata={_VERSION_KEY: str(FORMAT_VERSION).encode()},
)
"""One row per clip. `features` is a C-ordered array; its shape, its dtype and the front end are in the metadata."""

REJECTS: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_tag", pa.string(), nullable=False),
        pa.field("error_kind", pa.string(), nullable=False),
        pa.field("error_message", pa.string(), nullable=False),
        pa.field("error_offset", pa.int64()),
    ],
    metadata={_VERSION_KEY: str(FORMAT_VERSION).encode()},
)
"""One row per track that gave no features, with the reason. The table is stored beside the features."""

_UTC: Final = pa.timestamp("us", tz="UTC")

TOP_K: Final = pa.list_(pa.struct([pa.field("genre", pa.string()), pa.field("probability", pa.float64())]))

_STALE: Final = (
    pa.field("last_error_kind", pa.string()),
    pa.field("last_error_message", pa.string()),
    pa.field("stale_since", _UTC),
    pa.field("tried_uri", pa.string()),
    pa.field("tried_content_tag", pa.string()),
    pa.field("tried_model_id", pa.string()),
    pa.field("tried_features_id", pa.string()),
)
"""Columns of a stale label: a label that a later try failed to renew. They are NULL for all other rows.

The row keeps its genre, confidence, model and date. These columns hold the failure of the last try, when the first try
failed, and what the last try heard with which model.
"""

_BANDWIDTH: Final = pa.field("bandwidth_hz", pa.float64())
"""Frequency above which a track has practically nothing; see `mgc.audio.bandwidth`. NULL where nobody measured it."""

_TOLERANCE: Final = pa.field("tolerance_seconds", pa.float64())
"""Largest error of the duration and of where the windows lie. 0 where both are exact to 0.1 s, NULL in older rows."""

LABELS_ADDED: Final = (_TOLERANCE, _BANDWIDTH, *_STALE)
"""Columns that tables of an older mgc lack. Their readers see NULL, and the next commit adds them."""

LABELS: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_tag", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("genre_top", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("top_k", TOP_K),
        pa.field("genres", pa.list_(pa.string())),
        pa.field("duration_seconds", pa.float64()),
        _TOLERANCE,
        pa.field("decoder", pa.string()),
        pa.field("seconds_listened", pa.float64()),
        _BANDWIDTH,
        pa.field("error_kind", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("error_offset", pa.int64()),
        pa.field("damage", pa.string()),
        pa.field("tries", pa.int32(), nullable=False),
        pa.field("next_try_at", _UTC),
        *_STALE,
        pa.field("removed_at", _UTC),
        pa.field("override_by", pa.string()),
        pa.field("override_reason", pa.string()),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("features_id", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("labeled_at", _UTC, nullable=False),
    ],
    metadata={_VERSION_KEY: str(FORMAT_VERSION).encode()},
)
"""Exactly one row per catalog row. `status` is `labeled` or `quarantined`.

A failed try never takes a label away: the row stays `labeled`, and `stale_since` says since when it is stale.
"""

EMBEDDINGS: Final = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_tag", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("windows", pa.int32()),
        pa.field("duration_seconds", pa.float64()),
        _TOLERANCE,
        pa.field("error_kind", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("error_offset", pa.int64()),
        pa.field("damage", pa.string()),
        pa.field("tries", pa.int32(), nullable=False),
        pa.field("next_try_at", _UTC),
        *_STALE,
        pa.field("removed_at", _UTC),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("features_id", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("embedded_at", _UTC, nullable=False),
    ],
    metadata={_VERSION_KEY: str(FORMAT_VERSION).encode()},
)
"""Exactly one row per catalog row, with an embedding or with an error.

`model_id` is `Bundle.embedding_id`, and `embedding` has the same number of values in all its rows. Delta Lake knows no
lists of a fixed size, so the type does not say it. `windows` counts the clips that it is the mean of. A failed try
never takes an embedding away, as it never takes a label away.
"""

LARGEST_NUMBER: Final = 1e9
"""Largest size of a number in an embedding. Sums of larger ones' squares could leave the range of float32."""

LABELED: Final = "labeled"
QUARANTINED: Final = "quarantined"


def check_catalog(columns: pa.Schema, where: str) -> None:
    """Refuse a catalog of a newer format, or one that lacks a required column, has it twice, or has another type there.

    Args:
        columns: schema of the catalog.
        where: its URI, for the message.

    Raises:
        CatalogError: the schema does not fit; the message names the columns.
    """
    check_version(columns, where, CatalogError)
    check_notices(columns, where, CatalogError)
    missing = [name for name in CATALOG_REQUIRED if name not in columns.names]
    if missing:
        raise CatalogError(
            f"{where}: a catalog needs the column(s) {', '.join(missing)}; found {', '.join(columns.names) or 'none'}. "
            "Write one with `mgc catalog SOURCE --out CATALOG`."
        )
    twice = sorted(name for name, count in Counter(map(str.lower, columns.names)).items() if count > 1)
    for name in twice:
        if name in CATALOG.names:
            raise CatalogError(f"{where}: several columns are named {name}, or differ in case only; keep one of them.")
    for field in columns:
        if field.name in CATALOG.names and not _fits(field.type, CATALOG.field(field.name).type):
            wanted = CATALOG.field(field.name).type
            raise CatalogError(
                f"{where}: column {field.name} is {field.type}; in a catalog it is {wanted}; convert it."
            )


def check_version(columns: pa.Schema, where: str, error: type[CatalogError] | type[FeaturesError]) -> None:
    """Refuse a table written in a newer format than this program reads.

    Args:
        columns: schema of the table.
        where: its URI, for the message.
        error: class of the error to raise.
    """
    stated = (columns.metadata or {}).get(_VERSION_KEY, b"1").decode("ascii", "replace")
    if not stated.isdecimal():
        raise error(f"{where}: its format version is {stated!r}, not a number; write the table again.")
    if int(stated) > FORMAT_VERSION:
        raise error(f"{where}: format version {stated}, this mgc reads up to {FORMAT_VERSION}; upgrade mgc.")


def with_notices(columns: pa.Schema, notices: Sequence[str]) -> pa.Schema:
    """Return the schema with notices that all figures from the table must show, such as a licence."""
    metadata = dict(columns.metadata or {})
    if notices:
        metadata[_NOTICES_KEY] = json.dumps(list(notices)).encode()
    return columns.with_metadata(metadata)


def notices_of(columns: pa.Schema) -> tuple[str, ...]:
    """Return the notices in a table's schema. Call `check_notices` before where another program may have written it."""
    return tuple(json.loads((columns.metadata or {}).get(_NOTICES_KEY, b"[]")))


def check_notices(columns: pa.Schema, where: str, error: type[CatalogError] | type[FeaturesError]) -> None:
    """Refuse a table whose notices are not a list of sentences.

    Args:
        columns: schema of the table.
        where: its URI, for the message.
        error: class of the error to raise.
    """
    try:
        found = json.loads((columns.metadata or {}).get(_NOTICES_KEY, b"[]"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise error(f"{where}: its metadata {_NOTICES_KEY.decode()} is not a JSON list of sentences; write it again.")


@dataclass(frozen=True)
class FeaturesFacts:
    """Facts about the features of a table, stored in its metadata.

    Attributes:
        front_end: configuration of the front end that computed them, JSON-ready.
        features_id: hash of everything that determines the numbers.
        shape: shape of one clip: (numbers,), (bins, frames) or (height, width, colours).
        dtype: one of `FEATURE_DTYPES`.
        listening: listening plan by which the tracks were heard, JSON-ready; None if the table does not say it.
    """

    front_end: Mapping[str, JsonValue]
    features_id: str
    shape: tuple[int, ...]
    dtype: str = "uint8"
    listening: Mapping[str, JsonValue] | None = None

    @property
    def clip_bytes(self) -> int:
        """Size of one clip in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def features_schema(facts: FeaturesFacts) -> pa.Schema:
    """Return the features schema with these facts in its metadata."""
    values: dict[str, object] = {
        "front_end": dict(facts.front_end),
        "features_id": facts.features_id,
        "shape": list(facts.shape),
        "dtype": facts.dtype,
    }
    if facts.listening is not None:
        values["listening"] = dict(facts.listening)
    metadata = dict(FEATURES.metadata or {})
    metadata[_FRONT_END_KEY] = json.dumps(values, sort_keys=True).encode()
    return FEATURES.with_metadata(metadata)


def read_features_facts(columns: pa.Schema, where: str) -> FeaturesFacts:
    """Read the facts that `features_schema` wrote.

    Args:
        columns: schema of the table.
        where: its URI, for the message.

    Raises:
        FeaturesError: the columns or the metadata are not those of a features table that this program reads.
    """
    check_version(columns, where, FeaturesError)
    check_notices(columns, where, FeaturesError)
    missing = [name for name in ("track_id", "clip_index", "features") if name not in columns.names]
    raw = (columns.metadata or {}).get(_FRONT_END_KEY)
    if missing or raw is None:
        what = f"lacks the column(s) {', '.join(missing)}" if missing else "does not say which front end computed it"
        raise FeaturesError(f"{where}: this is not a features table: it {what}. Write one with `mgc prepare`.")
    facts = _parse_facts(raw)
    if facts is None:
        raise FeaturesError(
            f"{where}: its metadata {_FRONT_END_KEY.decode()} must be JSON with front_end, features_id, shape (one "
            f"to three numbers) and dtype ({', '.join(FEATURE_DTYPES)}). Write the features again with `mgc prepare`."
        )
    kind = columns.field("features").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise FeaturesError(
            f"{where}: features are {kind} of {facts.dtype}, but should be binary of {facts.dtype}. Write features "
            "with `mgc prepare CATALOG --out FEATURES`."
        )
    return facts


def _parse_facts(raw: bytes) -> FeaturesFacts | None:
    """Return the facts in a table's metadata; None if `features_schema` does not write them in this form."""
    try:
        facts = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(facts, dict):
        return None
    front_end, identity, shape, dtype = (facts.get(name) for name in ("front_end", "features_id", "shape", "dtype"))
    if not isinstance(shape, list) or not 1 <= len(shape) <= 3:
        return None
    whole = all(type(side) is int and side > 0 for side in shape)
    if not (whole and isinstance(front_end, dict) and isinstance(identity, str) and dtype in FEATURE_DTYPES):
        return None
    listening = facts.get("listening")
    if not (listening is None or isinstance(listening, dict)):
        return None
    return FeaturesFacts(front_end, identity, tuple(shape), dtype, listening)


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether a column can be cast: other programs write large strings, categories, and integers as floats."""
    if found.equals(wanted) or pa.types.is_null(found):
        return True
    if pa.types.is_dictionary(found):
        return _fits(found.value_type, wanted)
    if pa.types.is_string(wanted):
        return bool(pa.types.is_large_string(found) or pa.types.is_string_view(found))
    if pa.types.is_floating(wanted) or pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(found) or pa.types.is_floating(found))
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        return _fits(found.value_type, wanted.value_type)
    return False
