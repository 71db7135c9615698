"""Catalogs that lie: a few kilobytes that decode to gigabytes, and rows in which anything may be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.labels.overrides import read_overrides
from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog, total_bytes
from cluster.tables.catalog_changes import earlier_listing
from cluster.tables.inspector import EXPANSION, SMALL_BYTES, TEXT_BYTES
from mgc import schema
from mgc.errors import CatalogError, LabelsError
from pipelines.catalogs.metadata import read_metadata
from tests.cluster.tables.table_files import put, refusal
from tests.support.draws import draws

MIB = 2**20
ROOT = Path(__file__).parents[3]
MUSIC = [Uri.parse("s3://m")]


def rows_of(rows: int, **columns: pa.Array) -> pa.Table:
    """So many good rows, some columns replaced."""
    names = [f"{number:09d}" for number in range(rows)]
    given = {
        "track_id": pa.array(names),
        "uri": pa.array([f"s3://m/{name}.mp3" for name in names]),
        "size_bytes": pa.array(np.full(rows, 4_000_000)),
        "content_tag": pa.array([f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(rows)]),
    }
    return pa.table(given | columns)


def repeated(rows: int, text: str) -> pa.Array:
    """One text in every row, of which a file holds one copy."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


def write(path: Path, table: pa.Table, **options: Any) -> str:
    pq.write_table(table, path, **{"compression": "zstd", **options})
    return str(path)


def bombs(folder: Path) -> Iterator[str]:
    """Small files, and what reading them without care would take."""
    # 7.5 GB: the batch of a reader.
    yield write(folder / "batch.parquet", rows_of(150_000, uri=repeated(150_000, "s3://m/" + "x" * 50_000)))
    # Texts of a length that is allowed, 1.2 GB.
    yield write(
        folder / "allowed.parquet",
        rows_of(300_000, uri=repeated(300_000, "s3://m/" + "x" * 4_000), content_tag=repeated(300_000, "1")),
    )
    # A single text of 100 MB, four times.
    yield write(folder / "single.parquet", rows_of(4, uri=repeated(4, "s3://m/" + "x" * 100_000_000)))
    # 40 GB: every text repeats the beginning of the one before.
    prefixed = pa.array(["s3://m/" + "x" * 200_000] * 200 + ["s3://m/"] * 199_800)
    delta = {"uri": "DELTA_BYTE_ARRAY", "track_id": "DELTA_BYTE_ARRAY"}
    yield write(folder / "prefix.parquet", rows_of(200_000, uri=prefixed), use_dictionary=False, column_encoding=delta)
    # 60 million rows without a value.
    nothing = pa.table({name: pa.nulls(20_000_000, schema.CATALOG.field(name).type) for name in ("track_id", "uri")})
    nothing = nothing.append_column("size_bytes", pa.nulls(20_000_000, pa.int64()))
    yield write(folder / "nothing.parquet", nothing.append_column("content_tag", nothing["uri"]))
    # A column that a plan does not need, and training does.
    genres = pa.array([["x" * 4_000] * 30_000, None, ["Rock"]])
    yield write(folder / "genres.parquet", rows_of(3, genres=genres))


_MEASURE = """
import json, resource, sys
from cluster.storage.uri import Uri
from cluster.tables.catalog import read_catalog
from mgc.errors import CatalogError

read_catalog(Uri.parse(sys.argv[1]), [Uri.parse("s3://m")])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for uri in sys.argv[2:]:
    try:
        said = f"{read_catalog(Uri.parse(uri), [Uri.parse('s3://m')]).count_rows()} rows"
    except CatalogError as error:
        said = str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"uri": uri, "said": said, "grown": grown << 10, "child": child << 10}))
"""


def test_bombs_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    good = put(str(tmp_path / "good.parquet"), rows_of(1000))
    uris = list(bombs(tmp_path))
    assert max(Path(uri).stat().st_size for uri in uris) < 2 * MIB
    answer = subprocess.run(
        [sys.executable, "-c", _MEASURE, good, *uris], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr
    found = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [each["uri"] for each in found] == uris
    for each in found:
        assert each["said"].startswith(each["uri"]), each
        assert "\n" not in each["said"]
        assert each["grown"] < 100 * MIB, each
        assert each["child"] < 1000 * MIB, each
    said = {Path(each["uri"]).stem: each["said"] for each in found}
    assert "row 1: its uri is 50,007 bytes long" in said["batch"]
    assert f"more than {SMALL_BYTES // MIB}" in said["allowed"]
    assert "row 1: its uri is 200,007 bytes long" in said["prefix"]
    assert f"more than {SMALL_BYTES // MIB}" in said["nothing"]


class TestTexts:
    @pytest.mark.parametrize("name", ["track_id", "uri", "content_tag", "genre_top", "artist_id", "split"])
    def test_the_longest_and_one_more(self, name: str, tmp_path: Path) -> None:
        for length, fits in ((TEXT_BYTES, True), (TEXT_BYTES + 1, False)):
            texts = [f"s3://m/{number}" for number in range(3)]
            texts[2] = texts[2].ljust(length, "z")
            uri = write(tmp_path / "c.parquet", rows_of(3, **{name: pa.array(texts)}))
            if fits:
                assert read_catalog(Uri.parse(uri), MUSIC).count_rows() == 3
            else:
                line = refusal(read_catalog, Uri.parse(uri), MUSIC)
                assert line.startswith(f"{uri}, row 3: its {name} is {length:,} bytes long")

    def test_the_row_is_counted_over_row_groups_and_lists(self, tmp_path: Path) -> None:
        genres = pa.array([["Rock"], None, [], ["Jazz", "x" * 20_000], ["Pop"]])
        uri = write(tmp_path / "c.parquet", rows_of(5, genres=genres), row_group_size=2)
        assert f"{uri}, row 4: its genres is 20,000 bytes long" in refusal(read_catalog, Uri.parse(uri), MUSIC)
        # A plan does not read the genres.
        assert read_catalog(Uri.parse(uri), MUSIC, schema.CATALOG_REQUIRED).count_rows() == 5

    @pytest.mark.parametrize("bad", [b"\xed\xa0\x80", b"\xff\xfe", b"a\xc3"])
    @pytest.mark.parametrize("name", ["track_id", "uri", "content_tag"])
    def test_text_that_is_not_utf8(self, name: str, bad: bytes, tmp_path: Path) -> None:
        """A lone surrogate, among others."""
        offsets = pa.py_buffer(np.array([0, 1, 1 + len(bad)], np.int32))
        column = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a" + bad)])
        uri = write(tmp_path / "c.parquet", rows_of(2, **{name: column}))
        assert refusal(read_catalog, Uri.parse(uri), MUSIC).startswith(f"{uri}, row 2: its {name} is not UTF-8 text")

    def test_line_breaks_and_control_characters_are_names(self, tmp_path: Path) -> None:
        """A store and a disk allow them, so they are read; a message shows them on one line."""
        names = sorted(["a\nb", "\x1b[31mred", "nul\0", "\u202egnp", "c\r\n", "\x7f"])
        uris = pa.array([f"s3://m/{name}" for name in names])
        uri = write(tmp_path / "c.parquet", rows_of(6, track_id=pa.array(names), uri=uris))
        assert load_catalog(read_catalog(Uri.parse(uri), MUSIC))["track_id"].to_pylist() == names
        name = "\0\n\x1b[31m\u202e"
        uri = write(tmp_path / "c.parquet", rows_of(2, track_id=pa.array([name] * 2)))
        line = refusal(read_catalog, Uri.parse(uri), MUSIC)
        assert "2 rows" in line
        assert line.isprintable()
        uri = write(tmp_path / "c.parquet", rows_of(1, track_id=pa.array([name]), uri=pa.array(["/x\n/y"])))
        assert refusal(read_catalog, Uri.parse(uri), MUSIC).isprintable()


def test_everything_is_wrong_at_once(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 3, 6], np.int32)), pa.py_buffer(b"\xed\xa0\x80" * 2)]
    )
    table = pa.table(
        {"track_id": bad, "uri": bad, "size_bytes": pa.array([float("nan"), None]), "content_tag": pa.nulls(2)}
    )
    metadata = {b"mgc_notices": b"{", b"mgc_roots": b"[[[", b"mgc_format_version": b"x"}
    for each in (metadata, {**metadata, b"mgc_format_version": b"1"}, {b"mgc_roots": b"[["}, {}):
        uri = write(tmp_path / "c.parquet", table.replace_schema_metadata(each))
        assert refusal(read_catalog, Uri.parse(uri), MUSIC).startswith(uri)


def test_lying_sizes_do_not_overflow() -> None:
    table = rows_of(5, size_bytes=pa.array([2**62, 2**62, 2**62, -(2**63), -1]))
    assert total_bytes(table) == pytest.approx(3 * 2**62)
    assert total_bytes(rows_of(3, size_bytes=pa.array([5, 0, 2**53 - 6]))) == 2**53 - 1
    assert total_bytes(rows_of(0)) == 0


def read_or_refuse(uri: str) -> pa.Table | None:
    """The rows, or None where the catalog is refused in one line that names it."""
    try:
        return load_catalog(read_catalog(Uri.parse(uri), MUSIC))
    except CatalogError as error:
        line = str(error)
    assert line.startswith(uri)
    assert "\n" not in line
    return None


TEXTS = st.sampled_from(
    ["a", "b", "c", "", "\0", "\n", "s3://m/a", "s3://m/b", "s3://other/a", "/etc/passwd", "s3://m/../x",
     "x" * (TEXT_BYTES + 1), "x" * TEXT_BYTES, "é", None]
)  # fmt: skip
COLUMNS = {
    "track_id": TEXTS,
    "uri": TEXTS,
    "size_bytes": st.sampled_from([0, 1, -1, 2**60, -(2**63), None]),
    "content_tag": TEXTS,
    "genre_top": TEXTS,
    "genres": st.none() | st.lists(TEXTS, max_size=3),
    "duration_seconds": st.sampled_from([1.5, float("nan"), float("-inf"), None]),
}
ROWS = st.lists(st.fixed_dictionaries(COLUMNS), max_size=4)
SHAPES: list[Callable[[pa.Table], pa.Table]] = [
    lambda table: table,
    lambda table: table.set_column(1, "uri", table["uri"].dictionary_encode()),
    lambda table: table.set_column(0, "track_id", table["track_id"].cast(pa.large_string())),
    lambda table: table.append_column("URI", table["track_id"]),
    lambda table: table.drop_columns("content_tag"),
]


@pytest.mark.draws
@settings(max_examples=draws(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from(SHAPES), st.booleans())
def test_any_rows_are_read_or_refused(
    tmp_path: Path, rows: list[dict[str, Any]], shape: Callable[[pa.Table], pa.Table], dictionary: bool
) -> None:
    """What is read keeps every promise of a catalog."""
    fields = [schema.CATALOG.field(name).with_nullable(True) for name in COLUMNS]
    table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
    uri = write(tmp_path / "c.parquet", shape(table), use_dictionary=dictionary, row_group_size=2)
    table = read_or_refuse(uri)
    if table is None:
        return
    found = table.to_pylist()
    ids = [row["track_id"] for row in found]
    assert ids == sorted({row["track_id"] for row in rows})
    assert len(ids) == len(rows) > 0
    for row in found:
        assert row["uri"].startswith("s3://m/")
        assert None not in [row[name] for name in schema.CATALOG_REQUIRED]
        assert max(len(row[name].encode()) for name in ("track_id", "uri", "content_tag")) <= TEXT_BYTES


@pytest.mark.draws
@settings(max_examples=draws(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_bytes_are_read_or_refused(tmp_path: Path, flips: list[tuple[float, int]]) -> None:
    """Sizes, counts and lengths that are not true, in the footer and in the pages."""
    uri = write(tmp_path / "c.parquet", rows_of(50))
    data = bytearray(Path(uri).read_bytes())
    for place, value in flips:
        data[int(place * len(data))] = value
    Path(uri).write_bytes(data)
    table = read_or_refuse(uri)
    if table is None:
        return
    assert table.num_rows == len(set(table["track_id"].to_pylist()))
    assert all(uri.startswith("s3://m/") for uri in table["uri"].to_pylist())


class TestOtherTables:
    """Files of people that are read beside a catalog."""

    def test_corrections(self, tmp_path: Path) -> None:
        rows = 200_000
        table = pa.table(
            {
                "track_id": [f"{number:09d}" for number in range(rows)],
                "genre": repeated(rows, "Rock"),
                "by": repeated(rows, "anna"),
                "reason": repeated(rows, "x" * 4000),
                "extra": repeated(rows, "x" * 50_000),
            }
        )
        path = Uri.of_path(write(tmp_path / "o.parquet", table))
        assert f"more than {SMALL_BYTES // MIB}" in refusal(read_overrides, path, ["Rock"], error=LabelsError)
        # A column that is not read may hold anything.
        write(tmp_path / "o.parquet", table.drop_columns("reason").slice(0, 100))
        assert read_overrides(path, ["Rock"]).num_rows == 100
        write(tmp_path / "o.parquet", table.slice(0, 2).set_column(3, "reason", pa.array(["a", "x" * 20_000])))
        assert "row 2: its reason is 20,000" in refusal(read_overrides, path, ["Rock"], error=LabelsError)

    def test_metadata(self, tmp_path: Path) -> None:
        rows = 200_000
        ids = pa.array([f"{number:09d}" for number in range(rows)])
        table = pa.table({"file": ids, "genre_top": repeated(rows, "x" * 4000), "extra": repeated(rows, "x" * 50_000)})
        path = Uri.of_path(write(tmp_path / "m.parquet", table))
        line = refusal(read_metadata, path, {"track_id": "file"})
        assert f"more than {SMALL_BYTES // MIB}" in line
        write(tmp_path / "m.parquet", table.slice(0, 100))
        assert read_metadata(path, {"track_id": "file"}).num_rows == 100

    def test_the_catalog_of_the_last_night(self, tmp_path: Path) -> None:
        """It is compared with the new listing."""
        table = rows_of(200_000, content_tag=repeated(200_000, "x" * 4000))
        uri = write(tmp_path / "c.parquet", table.replace_schema_metadata({"mgc_source": "s3://m"}))
        assert f"more than {SMALL_BYTES // MIB}" in refusal(earlier_listing, Uri.parse(uri), Uri.parse("s3://m"))


def test_an_honest_catalog_is_far_from_the_limits(tmp_path: Path) -> None:
    """Names that repeat one another more than most."""
    table = rows_of(200_000).set_column(3, "content_tag", repeated(200_000, "1"))
    uri = write(tmp_path / "c.parquet", table)
    decoded = table.nbytes
    assert decoded < EXPANSION / 3 * Path(uri).stat().st_size
