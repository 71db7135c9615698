"""Catalog and features as Parquet under any URI."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow import fs

from cluster import storage
from mgc import schema
from mgc.errors import CatalogError, FeaturesError, MgcError

CATALOG_ROWS_PER_FILE: Final = 1_000_000


def is_parquet(uri: str) -> bool:
    """Whether a URI names a Parquet file by its ending."""
    return uri.rstrip("/").lower().endswith((".parquet", ".pq"))


def open_parquet(uri: str, missing: str, error: type[MgcError]) -> pads.Dataset:
    """A Parquet file, or the Parquet files of a folder, as one dataset.

    Args:
        uri: where.
        missing: what to do when there is nothing, for the message.
        error: raised when there is nothing, or it is no Parquet.
    """
    location = storage.locate(uri)
    with storage.explain(uri, "read"):
        kind = location.filesystem.get_file_info(location.path).type
        if kind.name == "NotFound":
            raise error(f"{location.uri}: there is nothing here. {missing}")
        files = [location.path]
        if kind.name == "Directory":
            files = _parquet_files(location)
            if not files:
                raise error(f"{location.uri}: no Parquet file in this folder. {missing}")
        try:
            return pads.dataset(files, filesystem=location.filesystem, format="parquet", exclude_invalid_files=False)
        except pa.ArrowInvalid as fault:
            reason = " ".join(str(fault).split())[:200]
            raise error(f"{location.uri}: this is no readable Parquet ({reason}). {missing}") from None


def _parquet_files(location: storage.Location) -> list[str]:
    selector = fs.FileSelector(location.path, recursive=True)
    infos = location.filesystem.get_file_info(selector)
    return sorted(
        info.path
        for info in infos
        if info.type == fs.FileType.File
        and info.path.endswith(".parquet")
        and not any(part.startswith((".", "_")) for part in info.path[len(location.path) :].split("/"))
    )


# Catalog


def write_catalog(uri: str, tables: Iterable[pa.Table], notices: Sequence[str] = ()) -> int:
    """Write a catalog as one Parquet file; returns its rows. Nothing is left behind by a failed writer.

    Args:
        uri: a file ending in .parquet, or a folder that will hold `catalog.parquet`.
        tables: rows with the schema `schema.CATALOG`.
        notices: to be shown with every figure made from this catalog.
    """
    target = uri if is_parquet(uri) else storage.join(uri, "catalog.parquet")
    columns = schema.with_notices(schema.CATALOG, notices)
    sink = pa.BufferOutputStream()
    rows = 0
    with pq.ParquetWriter(sink, columns, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.cast(columns))
            rows += table.num_rows
    storage.write_bytes(target, sink.getvalue().to_pybytes())
    return rows


def read_catalog(uri: str) -> pads.Dataset:
    """A checked catalog.

    Raises:
        CatalogError: a needed column is missing, or a track id stands in it twice.
    """
    dataset = open_parquet(uri, "Write a catalog with `mgc catalog SOURCE --out CATALOG`.", CatalogError)
    schema.check_catalog(dataset.schema, storage.redact(uri))
    connection = duckdb.connect()
    connection.register("catalog", dataset)
    for name in schema.CATALOG_REQUIRED:
        null = connection.execute(f"SELECT count(*) FROM catalog WHERE {name} IS NULL").fetchone()
        if null and null[0]:
            raise CatalogError(f"{storage.redact(uri)}: {null[0]} rows have no {name}; every row of a catalog needs one.")
    repeated = connection.execute(
        "SELECT track_id, count(*) AS n FROM catalog GROUP BY track_id HAVING n > 1 ORDER BY track_id LIMIT 1"
    ).fetchone()
    if repeated:
        raise CatalogError(
            f"{storage.redact(uri)}: track_id {repeated[0]!r} stands in {repeated[1]} rows; a track has exactly one."
        )
    return dataset


def catalog_table(dataset: pads.Dataset, limit: int | None = None) -> pa.Table:
    """Rows of a catalog with every column of `schema.CATALOG` (null where the catalog has none), in order of track id."""
    names = [name for name in schema.CATALOG.names if name in dataset.schema.names]
    table = dataset.to_table(columns=names)
    table = table.take(pc.sort_indices(table["track_id"]))
    if limit is not None:
        table = table.slice(0, limit)
    columns = [
        table[field.name].cast(field.type) if field.name in names else pa.nulls(table.num_rows, field.type)
        for field in schema.CATALOG
    ]
    return pa.table(columns, schema=schema.CATALOG)


# Features


class FeaturesWriter:
    """Writes features and rejects under a URI, one file at a time, each complete or absent.

    OUT/features/*.parquet holds `schema.FEATURES` with the front end in the metadata, OUT/rejects/*.parquet `schema.REJECTS`.
    """

    def __init__(
        self, uri: str, front_end: dict[str, Any], features_id: str, shape: tuple[int, int], notices: Sequence[str] = ()
    ) -> None:
        self._uri = uri
        self._schema = schema.with_notices(schema.features_schema(front_end, features_id, shape), notices)

    def write(self, features: pa.Table, rejects: pa.Table) -> None:
        """Append rows: a file for the features, one for the rejects, where there are any."""
        for name, table, columns in (("features", features, self._schema), ("rejects", rejects, schema.REJECTS)):
            if table.num_rows:
                write_part(storage.join(self._uri, name), table.cast(columns))


def write_part(folder_uri: str, table: pa.Table) -> None:
    """Add a Parquet file to a folder; it is there whole or not at all, and no other has its name."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=2048)
    storage.write_bytes(storage.join(folder_uri, f"part-{uuid.uuid4().hex}.parquet"), sink.getvalue().to_pybytes())


def read_features(uri: str) -> tuple[pads.Dataset, dict[str, Any]]:
    """A features table and its facts: `front_end`, `features_id`, `shape`.

    Args:
        uri: what `prepare` wrote, or any folder or file in that format.

    Raises:
        FeaturesError: there is none, or files of several front ends lie together.
    """
    folder = storage.join(uri, "features")
    where = folder if not is_parquet(uri) and storage.exists(folder) else uri
    dataset = open_parquet(where, "Write features with `mgc prepare CATALOG --out FEATURES`.", FeaturesError)
    facts = schema.features_facts(dataset.schema, storage.redact(uri))
    return dataset, facts


def features_done(uri: str, features_id: str) -> pa.Table | None:
    """`track_id`, `content_tag` of every track that features or rejects under a URI already hold; None if nothing is there.

    Raises:
        FeaturesError: what lies there is of another front end.
    """
    parts = []
    for name in ("features", "rejects"):
        folder = storage.join(uri, name)
        if not storage.exists(folder):
            continue
        dataset = open_parquet(folder, "", FeaturesError)
        if name == "features":
            facts = schema.features_facts(dataset.schema, storage.redact(folder))
            if facts["features_id"] != features_id:
                raise FeaturesError(
                    f"{storage.redact(uri)} holds features {facts['features_id']} of the front end "
                    f"{json.dumps(facts['front_end'])}, not {features_id}; give another --out, or remove it."
                )
        parts.append(dataset.to_table(columns=["track_id", "content_tag"]))
    return pa.concat_tables(parts).group_by(["track_id", "content_tag"]).aggregate([]) if parts else None


def class_counts(dataset: pads.Dataset, split: str) -> dict[str, int]:
    """Clips of each genre in a split, genres in alphabetical order; rows without a genre are left out."""
    table = dataset.to_table(
        columns=["genre_top"], filter=(pc.field("split") == split) & pc.field("genre_top").is_valid()
    )
    counted = table.group_by("genre_top").aggregate([([], "count_all")])
    pairs = zip(counted["genre_top"].to_pylist(), counted["count_all"].to_pylist(), strict=True)
    return dict(sorted(pairs))
