"""Write and read catalogs as Parquet."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from cluster.storage import files, sealed
from cluster.storage.listing.facts import Survey
from cluster.storage.uri import Uri
from cluster.tables.duckdb import bounded_duckdb
from cluster.tables.inspection import inspect_table
from cluster.tables.inspector import Question
from cluster.tables.parquet import ROW_GROUP, is_parquet, open_parquet, reading
from cluster.tables.roots import SOURCE_KEY, Roots, quote, refuse_outside, roots_entry, stated_roots
from mgc import schema
from mgc.errors import CatalogError, StorageError
from mgc.units import format_count

SURVEY_KEY: Final = "mgc_survey"
"""Key of the entry of a catalog's footer that says what its listing saw besides the tracks."""

_WRITE_CATALOG: Final = "Write a catalog with `mgc catalog SOURCE --out CATALOG`."


def write_catalog(
    uri: Uri,
    tables: Iterable[pa.Table],
    notices: Sequence[str] = (),
    source: Uri | None = None,
    roots: Sequence[Uri] = (),
    survey: Survey | None = None,
    extra: pa.Schema | None = None,
) -> int:
    """Write a catalog as one sealed Parquet file, a row group at a time, and return the number of rows.

    A reader finds the old file or the new one, and a writer that fails leaves nothing behind: see `files.writing`.

    Args:
        uri: a file ending in .parquet, or a folder that will hold `catalog.parquet`.
        tables: rows with the schema `schema.CATALOG`, and behind it the columns of `extra`.
        notices: sentences to show with every figure made from this catalog.
        source: the listed source, for `cluster.tables.catalog_changes`; the rows must then be in order of track id.
        roots: places below which the URIs lie; by default the source. Without either, a reader allows only the folder
            of the catalog.
        survey: what the listing saw besides the rows. It is complete when the last of `tables` is taken.
        extra: further columns, such as `schema.CATALOG_TAGS`.
    """
    target = uri if is_parquet(uri) else uri / "catalog.parquet"
    columns = schema.with_notices(schema.CATALOG, notices)
    for field in extra or ():
        columns = columns.append(field)
    if source is not None:
        roots = roots or (source,)
        columns = columns.with_metadata({**columns.metadata, SOURCE_KEY: source.text.encode()})
    columns = columns.with_metadata({**columns.metadata, **roots_entry(roots)})
    rows = 0
    with files.writing(target) as path:
        with pq.ParquetWriter(path, columns, **sealed.PAGES) as writer:
            for table in _regrouped(tables):
                writer.write_table(table.cast(columns), row_group_size=ROW_GROUP)
                rows += table.num_rows
            if survey is not None:
                writer.add_key_value_metadata({SURVEY_KEY: json.dumps(survey.to_json())})
        sealed.seal(path)
    return rows


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows, at least `ROW_GROUP` at a time."""
    gathered: list[pa.Table] = []
    for table in tables:
        gathered.append(table)
        if sum(each.num_rows for each in gathered) >= ROW_GROUP:
            yield pa.concat_tables(gathered)
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered)


def read_catalog(
    uri: Uri, allowed: Sequence[Uri] = (), needed: Collection[str] = tuple(schema.CATALOG.names)
) -> pads.Dataset:
    """Open a catalog and check it. Another program may have written it, so nothing that it says is believed.

    The dataset has exactly the columns of `schema.CATALOG` (null where the file has none), the notices and the roots.

    Args:
        uri: the catalog.
        allowed: roots below which every URI must lie. Without any, they are the roots that the catalog states: those
            of its SOURCE. If it states none, the root is the folder that it lies in.
        needed: columns that will be read. The memory that they take is bounded.

    Raises:
        CatalogError: the catalog is missing or not Parquet, a required column is missing or null, a track id is in
            several rows, a text is too long or not UTF-8, the columns take far more memory than the files, a URI is
            outside the roots, or there is no track. (A labels table that follows an empty catalog would mark every
            track as removed.)
    """
    notices: dict[str, None] = {}
    stated: dict[Uri, None] = {}
    where = str(uri)

    def check(found: pa.Schema, where: str) -> None:
        schema.check_catalog(found, where)
        notices.update(dict.fromkeys(schema.notices_of(found)))
        folder = uri.parent if where == str(uri) else uri
        stated.update(dict.fromkeys(stated_roots(found.metadata, where) or (folder,)))

    dataset = open_parquet(uri, _WRITE_CATALOG, CatalogError, schema.CATALOG, check)
    roots = Roots(tuple(allowed) or tuple(stated))
    columns = schema.with_notices(schema.CATALOG, [*notices])
    dataset = dataset.replace_schema(columns.with_metadata({**columns.metadata, **roots_entry(roots.places)}))
    files = tuple((path, str(uri / path.removeprefix(uri.path))) for path in dataset.files)
    wanted = pa.schema([field for field in schema.CATALOG if field.name in needed])
    question = Question(where, dataset.filesystem, files, wanted, schema.CATALOG_REQUIRED, "track_id", roots)
    found = inspect_table(uri, question, _WRITE_CATALOG, CatalogError)
    for name, count in found.nulls.items():
        raise CatalogError(f"{where}: {format_count(count, 'row')} without {name}; every row of a catalog needs one.")
    with reading(uri, _WRITE_CATALOG, CatalogError):
        if not found.rows:
            raise CatalogError(f"{where}: this catalog holds no track. {_WRITE_CATALOG}")
        if found.outside:
            refuse_outside(where, roots, found.outside, *found.first_outside)
        repeated = [] if found.in_order else _repeated(dataset)
    for track_id, count in repeated:
        raise CatalogError(
            f"{where}: track_id {quote(track_id)} is in {count} rows; a track has exactly one row. Keep one of them."
        )
    return dataset


def _repeated(dataset: pads.Dataset) -> list[tuple[str, int]]:
    """Return the first track id that is in several rows, with their number."""
    with bounded_duckdb() as connection:
        connection.register("catalog", dataset)
        found: list[tuple[str, int]] = connection.sql(
            "SELECT track_id, count(*) AS n FROM catalog GROUP BY track_id HAVING n > 1 ORDER BY track_id LIMIT 1"
        ).fetchall()
    return found


def stated_survey(dataset: pads.Dataset) -> Survey | None:
    """Return what the listing of a catalog saw besides its tracks; None if the catalog does not say.

    Raises:
        CatalogError: the entry is not what mgc writes there.
    """
    total = None
    for fragment in dataset.get_fragments():
        entry = (fragment.metadata.metadata or {}).get(SURVEY_KEY.encode())
        if entry is None:
            continue
        try:
            found = Survey.from_json(json.loads(entry))
        except (ValueError, RecursionError, StorageError):
            raise CatalogError(
                f"{fragment.path}: its metadata {SURVEY_KEY} is no survey; write the catalog again with `mgc catalog`."
            ) from None
        total = total or Survey()
        total.add(found)
    return total


def total_bytes(tracks: pa.Table) -> int:
    """Return the size of all files as the catalog states it, for estimates. Impossible sizes cause no overflow."""
    stated = pc.max_element_wise(tracks["size_bytes"], 0).cast(pa.float64(), safe=False)
    return int(pc.sum(stated, min_count=0).as_py())


def load_catalog(dataset: pads.Dataset, limit: int | None = None) -> pa.Table:
    """Load the rows of a checked catalog as `schema.CATALOG`, in order of track id."""
    with reading("the catalog", _WRITE_CATALOG, CatalogError):
        table = dataset.replace_schema(schema.CATALOG).to_table()
        ids = table["track_id"]
        if not pc.all(pc.less(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1)), min_count=0).as_py():
            table = table.take(pc.sort_indices(ids))
    return table if limit is None else table.slice(0, limit)
