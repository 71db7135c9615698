"""Write features as Parquet in parts, and read them with their facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa
import pyarrow.dataset as pads

from cluster.storage import files
from cluster.storage.sealed import check_footer
from cluster.storage.uri import Uri
from cluster.tables.parquet import (
    CHECKED,
    FOOTERS_AT_ONCE,
    ROW_GROUP,
    is_parquet,
    open_parquet,
    place_of,
    reading,
    write_part,
)
from mgc import schema
from mgc.configuration import short_hash
from mgc.datasets.protocols import ProtocolConfig
from mgc.datasets.roster import COLUMNS, Roster, count_rows, digest_facts
from mgc.errors import FeaturesError
from mgc.schema import FeaturesFacts

_WRITE_FEATURES: Final = "Write features with `mgc prepare CATALOG --out FEATURES`."

_KEYS: Final = ["track_id", "content_tag"]
_FACTS: Final = [*_KEYS, "genre_top", "artist_id", "split"]

DAMAGED: Final = (
    "Delete that file and run `mgc prepare CATALOG --out FEATURES` again: it computes the features of its tracks anew."
)
"""Advice about a damaged file of features."""

CLIPS_OF_A_ROW_GROUP: Final = 256
"""Training reads row groups in random order. Small ones (4 MiB) mix even a corpus that is sorted by genre."""


class FeaturesWriter:
    """Writes features and rejects into a folder, one file at a time. Each file is complete or absent.

    OUT/features/*.parquet holds `schema.FEATURES` with the front end in the metadata, OUT/rejects/*.parquet
    `schema.REJECTS`. The name of a file depends on its rows. So a task that runs again after the loss of
    its node writes the same file to the same place. The order of training depends on the names, so it stays the same
    when tracks are prepared again.
    """

    def __init__(self, uri: Uri, facts: FeaturesFacts, notices: Sequence[str] = ()) -> None:
        self._uri = uri
        self._features_id = facts.features_id
        self.clip_bytes = facts.clip_bytes
        self._schema = schema.with_notices(schema.features_schema(facts), notices)

    def write(self, features: pa.Table, rejects: pa.Table) -> None:
        """Write one file for the features and one for the rejects, if there are any."""
        for name, table, columns in (("features", features, self._schema), ("rejects", rejects, schema.REJECTS)):
            if table.num_rows:
                rows = table.cast(columns)
                write_part(self._uri / name, rows, CLIPS_OF_A_ROW_GROUP, self._name(rows))

    def _name(self, rows: pa.Table) -> str:
        keys = [name for name in ("track_id", "content_tag", "clip_index") if name in rows.column_names]
        said = json.dumps([self._features_id, rows.select(keys).to_pydict()])
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def read_features(uri: Uri) -> tuple[pads.FileSystemDataset, FeaturesFacts]:
    """Open a features table, and return it with the facts of its features.

    The dataset has every column of `schema.FEATURES` (null where the files have none), and the notices of all files.

    Args:
        uri: what `prepare` wrote, or any folder or file in that format.

    Raises:
        FeaturesError: there is no table, it has another format, or the folder has files of several front ends or
            listening plans.
    """
    folder = uri / "features"
    inside = not is_parquet(uri) and files.exists(folder)
    if not inside and files.exists(uri / "rejects"):
        raise FeaturesError(f"{uri} holds rejects only: no track gave features. See why in its rejects.")
    seen: list[tuple[FeaturesFacts, str]] = []
    planned: list[tuple[FeaturesFacts, str]] = []
    notices: dict[str, None] = {}

    def check(found: pa.Schema, where: str) -> None:
        these = schema.read_features_facts(found, where)
        seen.append((these, where))
        facts, first = seen[0]
        if (these.features_id, these.shape, these.dtype) != (facts.features_id, facts.shape, facts.dtype):
            raise FeaturesError(
                f"{where} holds features {these.features_id}, {first} holds {facts.features_id}: features of "
                "several front ends cannot be mixed; put them into separate folders."
            )
        if these.listening is not None:
            planned.append((these, where))
            if these.listening != planned[0][0].listening:
                raise FeaturesError(
                    f"{where} and {planned[0][1]} hold features of different listening plans, which cannot be mixed; "
                    "put them into separate folders."
                )
        notices.update(dict.fromkeys(schema.notices_of(found)))

    place = folder if inside else uri
    dataset = open_parquet(place, _WRITE_FEATURES, FeaturesError, schema.FEATURES, check, DAMAGED)
    facts, _ = (planned or seen)[0]
    columns = schema.with_notices(schema.features_schema(facts), [*notices])
    return dataset.replace_schema(columns), facts


def features_done(uri: Uri, features_id: str) -> pa.Table | None:
    """Return `track_id`, `content_tag` of every track in the features and rejects of a folder; None if there are none.

    Raises:
        FeaturesError: the features there come from another front end.
    """
    parts = []
    for name, columns in (("features", schema.FEATURES), ("rejects", schema.REJECTS)):
        folder = uri / name
        if not any(map(is_parquet, files.list_uris(folder))):
            continue
        if name == "features":
            dataset, facts = read_features(uri)
            if facts.features_id != features_id:
                raise FeaturesError(
                    f"{uri} holds features {facts.features_id} of the front end "
                    f"{json.dumps(dict(facts.front_end))}, not {features_id}; give another --out, or remove it."
                )
        else:
            dataset = open_parquet(folder, "Remove it, or give another --out.", FeaturesError, columns)
        with reading(folder, "Remove it, or give another --out.", FeaturesError):
            parts.append(dataset.to_table(columns=_KEYS).replace_schema_metadata(None))
    return pa.concat_tables(parts).group_by(_KEYS).aggregate([]) if parts else None


def read_facts(uri: Uri) -> tuple[pa.Table, FeaturesFacts] | None:
    """Return what a folder of features says of its tracks and of itself; None if there are no features.

    Returns:
        Id, content tag, genre, artist and split of every track, and the facts that `read_features` returns.
    """
    folder = uri / "features"
    if not any(map(is_parquet, files.list_uris(folder))):
        return None
    dataset, facts = read_features(uri)
    # A track has many clips, so the rows of all of them are never in memory.
    batches = (pa.Table.from_batches([batch]) for batch in read_batches(dataset, _FACTS))
    parts = [rows.group_by(_FACTS).aggregate([]) for rows in batches]
    nothing = pa.schema([schema.FEATURES.field(name) for name in _FACTS]).empty_table()
    return pa.concat_tables([nothing, *parts]).group_by(_FACTS).aggregate([]), facts


def set_aside_damaged(uri: Uri) -> list[str]:
    """Move damaged files of features and rejects to a folder beside. Returns a line about each.

    Checks what `features_done` and `read_facts` read: the footer and small columns of each file. Clips are checked
    when they are read.
    """
    places = [place for name in ("features", "rejects") for place in files.list_uris(uri / name) if is_parquet(place)]
    # A file of rejects lacks most of these columns. They are null then.
    keys = pa.schema([schema.FEATURES.field(name) for name in _FACTS])

    def fault(place: Uri) -> str | None:
        try:
            with reading(place, "", _DamagedError):
                check_footer(place.filesystem, place.path)
                CHECKED.make_fragment(place.path, place.filesystem).to_table(keys)
        except _DamagedError as error:
            return str(error)
        return None

    lines = []
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as threads:
        for place, found in zip(places, threads.map(fault, places), strict=True):
            if found is not None:
                aside = uri / "_set_aside" / place.path.removeprefix(uri.path)
                files.move(place, aside)
                lines.append(f"{found} It is now {aside}, and the features of its tracks are computed anew.")
    return lines


class _DamagedError(FeaturesError):
    """A file of features is damaged."""


def columns_of(dataset: pads.Dataset) -> list[str]:
    """Return the columns that decide the side of a row. Features from other programs may lack some."""
    return [name for name in COLUMNS if name in dataset.schema.names]


def read_roster(dataset: pads.FileSystemDataset, protocol: ProtocolConfig) -> Roster:
    """Read which tracks of a features table are on which side, in one pass over its small columns."""
    return count_rows(read_batches(dataset, columns_of(dataset)), protocol)


def fingerprint_features(dataset: pads.FileSystemDataset, features_id: str) -> str:
    """Return a hash of a features table: its clips, and the labels and sides of their tracks.

    Names of feature files are unique, so the same names mean the same clips. They do not cover genre, artist and split.
    """
    facts = digest_facts(read_batches(dataset, columns_of(dataset)))
    return short_hash([features_id, sorted(dataset.files), facts])


def read_batches(dataset: pads.FileSystemDataset, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read columns of a features table in order, `ROW_GROUP` rows at a time.

    Raises:
        FeaturesError: a page is damaged; the message names the file.
    """
    try:
        yield from dataset.to_batches(columns=[*columns], batch_size=ROW_GROUP)
    except (pa.ArrowException, OSError):
        # Arrow does not name the file.
        for path in dataset.files:
            with reading(place_of(dataset.filesystem, path), DAMAGED, FeaturesError):
                for _ in CHECKED.make_fragment(path, dataset.filesystem).to_batches(dataset.schema, columns=[*columns]):
                    pass
        with reading("the features", _WRITE_FEATURES, FeaturesError):
            raise
