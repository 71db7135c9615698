"""Catalog and features as Parquet under any URI."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow import fs

from cluster import storage
from cluster.queries import bounded_duckdb
from mgc import schema
from mgc.datasets.protocols import ProtocolConfig
from mgc.datasets.roster import COLUMNS, Roster, count_rows
from mgc.errors import CatalogError, FeaturesError, MgcError

FOOTERS_AT_ONCE: Final = 16
"""Files opened side by side to look at their columns: object storage answers slowly, but many at a time."""

_WRITE_CATALOG: Final = "Write a catalog with `mgc catalog SOURCE --out CATALOG`."
_WRITE_FEATURES: Final = "Write features with `mgc prepare CATALOG --out FEATURES`."


def is_parquet(uri: str) -> bool:
    """Whether a URI names a Parquet file by its ending."""
    return uri.rstrip("/").lower().endswith((".parquet", ".pq"))


def open_parquet(
    uri: str,
    missing: str,
    error: type[MgcError],
    columns: pa.Schema | None = None,
    check: Callable[[pa.Schema, str], object] | None = None,
) -> pads.Dataset:
    """A Parquet file, or the Parquet files of a folder, as one dataset.

    Files and folders whose names begin with a dot or an underscore are not looked at.

    Args:
        uri: where.
        missing: what to do when there is nothing, for the message.
        error: raised when there is nothing, or it is no Parquet.
        columns: the dataset's schema, to which whatever lies in the files is cast (a column that is not there is null);
            by default that of the first file.
        check: called with the schema and the URI of every file, to refuse it.
    """
    location = storage.locate(uri)
    with reading(uri, missing, error):
        if not storage.exists(uri):
            raise error(_sentence(f"{storage.redact(uri)}: there is nothing here.", missing))
        files = _parquet_files(location)
        if not files:
            raise error(_sentence(f"{storage.redact(uri)}: no Parquet file in this folder.", missing))
        dataset = pads.dataset(files, schema=columns, filesystem=location.filesystem, format="parquet")
        if check is not None:
            fragments = list(dataset.get_fragments())
            with ThreadPoolExecutor(max_workers=min(FOOTERS_AT_ONCE, len(fragments))) as threads:
                for fragment, found in zip(
                    fragments, threads.map(lambda each: each.physical_schema, fragments), strict=True
                ):
                    check(found, storage.redact(location.uri + fragment.path.removeprefix(location.path)))
        return dataset


@contextlib.contextmanager
def reading(uri: str, remedy: str, error: type[MgcError]) -> Iterator[None]:
    """Turn what pyarrow and DuckDB raise on damaged Parquet into `error`, and what storage raises into StorageError.

    Args:
        uri: what is read, for the message.
        remedy: what to do about damage.
        error: of which class.
    """
    with storage.explain(uri, "read"):
        try:
            yield
        except (pa.ArrowException, duckdb.InvalidInputException, OSError) as fault:
            if isinstance(fault, OSError) and fault.errno is not None:
                raise
            text = str(fault)
            if any(sign in text for sign in ("AWS Error", "[errno ", "(os error ")):
                # DuckDB passes on in words what the file system said; `explain` understands them.
                raise OSError(text) from None
            reason = " ".join(storage.redact(text).removeprefix("Invalid Input Error: ").split())[:300].rstrip(".")
            raise error(_sentence(f"{storage.redact(uri)}: cannot be read as Parquet ({reason}).", remedy)) from None


def _sentence(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _parquet_files(location: storage.Location) -> list[str]:
    """Paths of the Parquet files of a folder, or of the one file."""
    if location.filesystem.get_file_info(location.path).type == fs.FileType.File:
        return [location.path]
    infos = location.filesystem.get_file_info(fs.FileSelector(location.path, recursive=True))
    return sorted(
        info.path
        for info in infos
        if info.type == fs.FileType.File
        and is_parquet(info.path)
        and not any(part.startswith((".", "_")) for part in info.path.removeprefix(location.path).split("/"))
    )


# Catalog


ROW_GROUP: Final = 131_072
"""Rows of a catalog that are written, and read, at a time."""

SOURCE_KEY: Final = b"mgc_source"
"""Where the metadata of a catalog say what was listed; its rows are then in order of track id."""


def write_catalog(uri: str, tables: Iterable[pa.Table], notices: Sequence[str] = (), source: str | None = None) -> int:
    """Write a catalog as one Parquet file, a row group at a time; returns its rows.

    A reader finds the old file or the new one. A writer that fails leaves nothing behind. On its way to object storage
    the file lies in the folder for temporary files.

    Args:
        uri: a file ending in .parquet, or a folder that will hold `catalog.parquet`.
        tables: rows with the schema `schema.CATALOG`.
        notices: to be shown with every figure made from this catalog.
        source: what was listed, for `cluster.catalog_changes`; then the rows come in order of track id.
    """
    target = uri if is_parquet(uri) else storage.join(uri, "catalog.parquet")
    columns = schema.with_notices(schema.CATALOG, notices)
    if source is not None:
        columns = columns.with_metadata({**columns.metadata, SOURCE_KEY: storage.locate(source).uri.encode()})
    rows = 0
    with _whole_file(target) as path, pq.ParquetWriter(path, columns, compression="zstd") as writer:
        for table in _regrouped(tables):
            writer.write_table(table.cast(columns), row_group_size=ROW_GROUP)
            rows += table.num_rows
    return rows


@contextlib.contextmanager
def _whole_file(uri: str) -> Iterator[Path]:
    """A path to write to; what lies there at the end becomes the file `uri` at once, nothing does after an error."""
    with storage.explain(uri, "write"):
        if storage.is_remote(uri):
            bucket, key = storage.split_s3(uri)
            with tempfile.NamedTemporaryFile(prefix="mgc-catalog-") as file:
                yield Path(file.name)
                file.seek(0)
                # In parts of 8 MiB that become an object when all are there.
                storage.s3_client(uri).upload_fileobj(file, bucket, key)
            return
        path = Path(storage.local_path(uri))
        if path.exists() and not path.is_file():
            # A folder, or a device or pipe that the rename below would put a file in place of.
            raise IsADirectoryError(errno.EISDIR, "not a regular file", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".mgc-{uuid.uuid4().hex}.tmp")
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, at least `ROW_GROUP` at a time."""
    gathered: list[pa.Table] = []
    for table in tables:
        gathered.append(table)
        if sum(each.num_rows for each in gathered) >= ROW_GROUP:
            yield pa.concat_tables(gathered)
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered)


def read_catalog(uri: str) -> pads.Dataset:
    """A checked catalog, with every column of `schema.CATALOG` (null where it has none) and its notices, and no others.

    What must not be null is read through only where the file does not rule nulls out; the track ids are, always. If
    they come in order, as `mgc catalog` writes them, that is one pass with no memory to speak of.

    Raises:
        CatalogError: it is not there or no Parquet, a needed column is missing or null, a track id stands in it twice,
            or it holds no track: a labels table that follows an empty catalog would mark every track as removed.
    """
    notices: dict[str, None] = {}
    doubtful: dict[str, None] = {}

    def check(found: pa.Schema, where: str) -> None:
        schema.check_catalog(found, where)
        notices.update(dict.fromkeys(schema.notices_of(found)))
        for name in schema.CATALOG_REQUIRED:
            if found.field(name).nullable or found.field(name).type != schema.CATALOG.field(name).type:
                doubtful[name] = None

    where = storage.redact(uri)
    dataset = open_parquet(uri, _WRITE_CATALOG, CatalogError, schema.CATALOG, check)
    dataset = dataset.replace_schema(schema.with_notices(schema.CATALOG, [*notices]))
    with reading(uri, _WRITE_CATALOG, CatalogError):
        if not dataset.count_rows():
            raise CatalogError(f"{where}: this catalog holds no track. {_WRITE_CATALOG}")
        nulls: Counter[str] = Counter()
        for name in doubtful:
            for batch in dataset.to_batches(columns=[name], batch_size=ROW_GROUP):
                nulls[name] += batch.column(0).null_count
        for name, count in nulls.items():
            if count:
                raise CatalogError(f"{where}: {count} rows have no {name}; every row of a catalog needs one.")
        repeated = [] if _in_order(dataset) else _repeated(dataset)
    for track_id, count in repeated:
        raise CatalogError(
            f"{where}: track_id {track_id!r} stands in {count} rows; a track has exactly one: leave one in."
        )
    return dataset


def _in_order(dataset: pads.Dataset) -> bool:
    """Whether each track id is greater than the one before."""
    last = None
    for batch in dataset.to_batches(columns=["track_id"], batch_size=ROW_GROUP):
        ids = batch.column(0)
        if not len(ids):
            continue
        if last is not None and not last < ids[0].as_py():
            return False
        if not pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
            return False
        last = ids[-1].as_py()
    return True


def _repeated(dataset: pads.Dataset) -> list[Any]:
    """The first track id that stands in several rows, with their number."""
    with bounded_duckdb() as connection:
        connection.register("catalog", dataset)
        return connection.sql(
            "SELECT track_id, count(*) AS n FROM catalog GROUP BY track_id HAVING n > 1 ORDER BY track_id LIMIT 1"
        ).fetchall()


def catalog_table(dataset: pads.Dataset, limit: int | None = None) -> pa.Table:
    """Rows of a checked catalog as `schema.CATALOG`, in order of track id."""
    with reading("the catalog", _WRITE_CATALOG, CatalogError):
        table = dataset.replace_schema(schema.CATALOG).to_table()
        ids = table["track_id"]
        if not pc.all(pc.less(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1)), min_count=0).as_py():
            table = table.take(pc.sort_indices(ids))
    return table if limit is None else table.slice(0, limit)


# Features


CLIPS_OF_A_ROW_GROUP: Final = 256
"""Row groups come in random order in training, a corpus's clips often genre by genre: small ones mix it, 4 MiB each."""


class FeaturesWriter:
    """Writes features and rejects under a URI, one file at a time, each complete or absent.

    OUT/features/*.parquet holds `schema.FEATURES` with the front end in the metadata, OUT/rejects/*.parquet
    `schema.REJECTS`. A file is named after its rows. A task that wrote them and is run again, since its node was lost,
    puts the same file in the same place. And training, in which names decide the order, is the same over tracks that
    were prepared anew.
    """

    def __init__(
        self,
        uri: str,
        front_end: dict[str, Any],
        features_id: str,
        shape: tuple[int, ...],
        notices: Sequence[str] = (),
        dtype: str = "uint8",
    ) -> None:
        self._uri = uri
        self._features_id = features_id
        self.clip_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        self._schema = schema.with_notices(schema.features_schema(front_end, features_id, shape, dtype), notices)

    def write(self, features: pa.Table, rejects: pa.Table) -> None:
        """Append rows: a file for the features, one for the rejects, where there are any."""
        for name, table, columns in (("features", features, self._schema), ("rejects", rejects, schema.REJECTS)):
            if table.num_rows:
                rows = table.cast(columns)
                write_part(storage.join(self._uri, name), rows, CLIPS_OF_A_ROW_GROUP, self._name(rows))

    def _name(self, rows: pa.Table) -> str:
        keys = [name for name in ("track_id", "content_tag", "clip_index") if name in rows.column_names]
        said = json.dumps([self._features_id, rows.select(keys).to_pydict()])
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def write_part(folder_uri: str, table: pa.Table, row_group: int = 2048, name: str | None = None) -> None:
    """Add a Parquet file to a folder; it is there whole or not at all. Without a name it gets one that no other has."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group)
    part = f"part-{name or uuid.uuid4().hex}.parquet"
    storage.write_bytes(storage.join(folder_uri, part), sink.getvalue().to_pybytes())


def read_features(uri: str) -> tuple[pads.Dataset, dict[str, Any]]:
    """A features table and its facts: `front_end`, `features_id`, `shape`, `dtype`.

    The dataset has every column of `schema.FEATURES` (null where the files have none), and the notices of all files.

    Args:
        uri: what `prepare` wrote, or any folder or file in that format.

    Raises:
        FeaturesError: there is none, it is of another format, or files of several front ends lie together.
    """
    folder = storage.join(uri, "features")
    inside = not is_parquet(uri) and storage.exists(folder)
    if not inside and storage.exists(storage.join(uri, "rejects")):
        raise FeaturesError(
            f"{storage.redact(uri)} holds rejects only: no track gave features. See why in its rejects."
        )
    seen: list[tuple[dict[str, Any], str]] = []
    notices: dict[str, None] = {}

    def check(found: pa.Schema, where: str) -> None:
        these = _facts(found, where)
        seen.append((these, where))
        facts, first = seen[0]
        if any(these[name] != facts[name] for name in ("features_id", "shape", "dtype")):
            raise FeaturesError(
                f"{where} holds features {these['features_id']}, {first} holds {facts['features_id']}: features of "
                "several front ends cannot be mixed; put them into folders of their own."
            )
        notices.update(dict.fromkeys(schema.notices_of(found)))

    dataset = open_parquet(folder if inside else uri, _WRITE_FEATURES, FeaturesError, schema.FEATURES, check)
    facts, _ = seen[0]
    columns = schema.features_schema(facts["front_end"], facts["features_id"], facts["shape"], facts["dtype"])
    return dataset.replace_schema(schema.with_notices(columns, [*notices])), facts


def _facts(found: pa.Schema, where: str) -> dict[str, Any]:
    """What a features file says of itself, its columns checked."""
    try:
        facts = schema.features_facts(found, where)
        front_end, features_id, shape = facts["front_end"], facts["features_id"], facts["shape"]
        readable = isinstance(front_end, dict) and isinstance(features_id, str) and len(shape) in (1, 2, 3)
    except (ValueError, TypeError, KeyError):
        readable = False
    if not readable:
        raise FeaturesError(f"{where}: what it says of its front end cannot be read. {_WRITE_FEATURES}")
    kind = found.field("features").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        dtype = facts["dtype"]
        raise FeaturesError(
            f"{where}: features are {kind} of {dtype}, and should be binary of {dtype}. {_WRITE_FEATURES}"
        )
    return facts


def features_done(uri: str, features_id: str) -> pa.Table | None:
    """`track_id`, `content_tag` of every track that features or rejects under a URI hold; None if nothing is there.

    Raises:
        FeaturesError: what lies there is of another front end.
    """
    parts = []
    for name, columns in (("features", schema.FEATURES), ("rejects", schema.REJECTS)):
        folder = storage.join(uri, name)
        if not any(map(is_parquet, storage.list_uris(folder))):
            continue
        if name == "features":
            dataset, facts = read_features(uri)
            if facts["features_id"] != features_id:
                raise FeaturesError(
                    f"{storage.redact(uri)} holds features {facts['features_id']} of the front end "
                    f"{json.dumps(facts['front_end'])}, not {features_id}; give another --out, or remove it."
                )
        else:
            dataset = open_parquet(folder, "Remove it, or give another --out.", FeaturesError, columns)
        with reading(folder, "Remove it, or give another --out.", FeaturesError):
            parts.append(dataset.to_table(columns=["track_id", "content_tag"]).replace_schema_metadata(None))
    return pa.concat_tables(parts).group_by(["track_id", "content_tag"]).aggregate([]) if parts else None


def columns_of(dataset: pads.Dataset) -> list[str]:
    """Those columns that decide on which side a row stands; others who write features may leave some out."""
    return [name for name in COLUMNS if name in dataset.schema.names]


def read_roster(dataset: pads.Dataset, protocol: ProtocolConfig) -> Roster:
    """Which tracks of a features table stand on which side, in one pass over its small columns."""
    with reading("the features", _WRITE_FEATURES, FeaturesError):
        return count_rows(dataset.to_batches(columns=columns_of(dataset), batch_size=ROW_GROUP), protocol)
