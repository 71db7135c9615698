"""Planning a night with nothing to do, and committing a night in which 1 % of the catalog changed, by rows.

    python -m tests.benchmarks.catalogs.night_scale --rows 1000000

Every step is a process of its own, so that its peak of resident memory is its own: the catalog and the labels table of
so many full rows are made; then, in each round, the night is planned (catalog opened and checked, table opened, the two
compared); then, in each round on a fresh copy of the table, 1 % of the tracks are changed, planned, staged, and
committed by `LabelsTable.commit`, whose time alone counts.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import duckdb
import pyarrow as pa
from deltalake import write_deltalake

from cluster.labels.plan import Plan
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from cluster.tables.catalog import write_catalog
from cluster.tables.parquet import write_part
from mgc import schema
from mgc.bundle import load_bundle
from pipelines.nights.plan import open_night
from pipelines.nights.requests import NightRequest
from tests.benchmarks.apart import facts_of, peak_bytes
from tests.benchmarks.result import Result, hand_over, say

RUN_ID = "0c9be7d1a55e"
CHANGED_SHARE = 0.01
ROWS_A_FILE = 50_000
"""Staged rows in a file: the label job's are smaller, but then what would be measured is opening them."""

_TRACKS = """
    SELECT i,
        printf('%03d/%07d.mp3', i // 10000, i) AS track_id,
        's3://music-catalog/audio/' || track_id AS uri,
        (hash(i) % 12000000 + 1000000)::BIGINT AS size_bytes,
        md5('bytes of ' || i || $night) AS content_tag,
        (hash(i, 1) % 480000) / 1000.0 + 30 AS duration_seconds
    FROM range($start::BIGINT, $stop::BIGINT) numbers(i)
"""

_GENRES = "['Electronic', 'Experimental', 'Folk', 'Hip-Hop', 'Instrumental', 'International', 'Pop', 'Rock']"

# One track in a hundred is quarantined for good. Delta keeps what is null for next to nothing, as in a real table.
_LABELS = f"""
    SELECT track_id, uri, content_tag,
        CASE WHEN hash(i, 2) % 100 = 0 THEN 'quarantined' ELSE 'labeled' END AS status,
        CASE WHEN status = 'labeled' THEN {_GENRES}[(hash(i, 3) % 8)::INT + 1] END AS genre_top,
        CASE WHEN status = 'labeled' THEN 0.3 + (hash(i, 4) % 1000000) / 1428572.0 END AS confidence,
        CASE WHEN status = 'labeled' THEN [
            {{'genre': genre_top, 'probability': confidence}},
            {{'genre': {_GENRES}[(hash(i, 5) % 8)::INT + 1], 'probability': (1 - confidence) * 0.7}},
            {{'genre': {_GENRES}[(hash(i, 6) % 8)::INT + 1], 'probability': (1 - confidence) * 0.2}}] END AS top_k,
        CASE WHEN status = 'labeled' THEN duration_seconds END AS duration_seconds,
        CASE WHEN status = 'labeled' THEN 0.0 END AS tolerance_seconds,
        CASE WHEN status = 'labeled' THEN 'soundfile' END AS decoder,
        CASE WHEN status = 'labeled' THEN least(duration_seconds, 90.0) END AS seconds_listened,
        CASE WHEN status = 'labeled' THEN 15000.0 + hash(i, 8) % 5000 END AS bandwidth_hz,
        CASE WHEN status = 'quarantined' THEN 'corrupt_stream' END AS error_kind,
        CASE WHEN status = 'quarantined' THEN 'no frame after byte ' || i || ' of the stream' END AS error_message,
        CASE WHEN status = 'quarantined' THEN i END AS error_offset,
        CASE WHEN hash(i, 7) % 200 = 0 THEN 'garbage between frames' END AS damage,
        1 AS tries, $model AS model_id, $features AS features_id, $run AS run_id,
        TIMESTAMPTZ '2026-01-01 02:00:00+00' + to_milliseconds(i) AS labeled_at
    FROM ({_TRACKS})
"""


def _batches(sql: str, columns: pa.Schema, **values: Any) -> pa.RecordBatchReader:
    """Rows of a query as a schema has them, streamed; what the query does not give is null."""

    def read() -> Any:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for batch in connection.sql(sql, params=values).to_arrow_reader(ROWS_A_FILE):
                given = set(batch.schema.names)
                yield pa.record_batch(
                    [
                        batch[field.name].cast(field.type)
                        if field.name in given
                        else pa.nulls(batch.num_rows, field.type)
                        for field in columns
                    ],
                    schema=columns,
                )

    return pa.RecordBatchReader.from_batches(columns, read())


def _catalog(folder: Path) -> str:
    return str(folder / "catalog.parquet")


def _write_catalog(folder: Path, batches: Iterable[pa.RecordBatch]) -> None:
    tables = (pa.Table.from_batches([batch]) for batch in batches)
    write_catalog(Uri.parse(_catalog(folder)), tables, roots=[Uri.parse("s3://music-catalog/audio")])


def _labels(folder: Path) -> str:
    return str(folder / "labels")


def plan_night(catalog: str, labels: str) -> tuple[LabelsTable, Plan]:
    """What the label job does before it asks Ray for anything."""
    night = open_night(NightRequest(Uri.parse(catalog), Uri.parse(labels)))
    return night.table, night.plan


def commit_night(table: LabelsTable, plan: Plan) -> int:
    """What the label job does once every row is staged."""
    return table.commit(plan, plan.key, datetime.now(UTC)).version


# The steps, each in a process of its own


def make(folder: Path, rows: int) -> dict[str, Any]:
    """A catalog of so many rows, and a labels table that is up to date with it."""
    where = {"start": 0, "stop": rows, "night": ""}
    _write_catalog(folder, _batches(_TRACKS, schema.CATALOG, **where))
    bundle = load_bundle("shipped")
    lineage = {"model": bundle.id, "features": bundle.features_id, "run": RUN_ID}
    write_deltalake(_labels(folder), _batches(_LABELS, schema.LABELS, **where, **lineage), name="mgc labels")
    files = [path.stat().st_size for path in Path(_labels(folder)).rglob("*.parquet")]
    return {
        "catalog_bytes": Path(_catalog(folder)).stat().st_size,
        "labels_bytes": sum(files),
        "labels_files": len(files),
    }


def plan(folder: Path, rows: int) -> dict[str, Any]:
    """Plan a night with nothing to do."""
    imports = peak_bytes()
    begun = time.perf_counter()
    _, planned = plan_night(_catalog(folder), _labels(folder))
    seconds = time.perf_counter() - begun
    if not planned.empty or planned.counts.up_to_date != rows:
        raise ValueError(f"{rows} tracks should be up to date: {planned.counts}")
    return {"seconds": seconds, "imports_bytes": imports, "peak_bytes": peak_bytes()}


def change(folder: Path, rows: int) -> dict[str, Any]:
    """The catalog of the next night: random tracks of it, 1 %, have other bytes."""
    tracks = f"""
        SELECT * REPLACE (CASE WHEN hash(i, 11) % 10000 < {round(CHANGED_SHARE * 10_000)}
                               THEN md5('other bytes of ' || i) ELSE content_tag END AS content_tag)
        FROM ({_TRACKS})
    """
    where = {"start": 0, "stop": rows, "night": ""}
    _write_catalog(folder, _batches(tracks, schema.CATALOG, **where))
    return {}


def commit(folder: Path, rows: int) -> dict[str, Any]:
    """Plan the changed catalog, stage a row for each track to do, and commit."""
    table, planned = plan_night(_catalog(folder), _labels(folder))
    todo = planned.todo
    if not 0.5 * CHANGED_SHARE < todo.num_rows / rows < 2 * CHANGED_SHARE or planned.counts.changed != todo.num_rows:
        raise ValueError(f"{CHANGED_SHARE:.0%} of {rows} tracks should have changed: {planned.counts}")
    table.run(planned).freeze()
    staged = _staged(planned)
    for start in range(0, todo.num_rows, ROWS_A_FILE):
        write_part(table.run(planned).staged_uri, staged.slice(start, ROWS_A_FILE))
    before = peak_bytes()
    begun = time.perf_counter()
    version = commit_night(table, planned)
    seconds = time.perf_counter() - begun
    _, next_night = plan_night(_catalog(folder), _labels(folder))
    if version < 1 or not next_night.empty or next_night.counts.up_to_date != rows:
        raise ValueError(f"the commit of version {version} left something to do: {next_night.counts}")
    return {"seconds": seconds, "rows": todo.num_rows, "before_bytes": before, "peak_bytes": peak_bytes()}


def _staged(planned: Plan) -> pa.Table:
    """A row of labels for each planned track."""
    rows = _LABELS.replace(
        _TRACKS, "SELECT hash(track_id) % 1000000 AS i, track_id, uri, content_tag, 200.0 AS duration_seconds FROM todo"
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("todo", planned.todo)
        lineage = {"model": planned.model_id, "features": planned.features_id, "run": planned.key}
        found = connection.sql(rows, params=lineage).to_arrow_table()
    columns = [
        found[field.name].cast(field.type) if field.name in found.column_names else pa.nulls(len(found), field.type)
        for field in schema.LABELS
    ]
    return pa.table(columns, schema=schema.LABELS)


STEPS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "make": make,
    "plan": plan,
    "change": change,
    "commit": commit,
}


# The measurement


def _millions(rows: int) -> str:
    return f"{rows // 1_000_000}m" if rows >= 1_000_000 else str(rows)


def measure(rows: int, rounds: int, commits: bool) -> list[Result]:
    """`plan_*_seconds` and `plan_*_gib`; with commits also `commit_*_seconds`. The names hold the rows."""

    def step(name: str, folder: Path) -> dict[str, Any]:
        begun = time.perf_counter()
        arguments = ["--step", name, "--folder", str(folder), "--rows", str(rows)]
        facts: dict[str, Any] = facts_of("tests.benchmarks.catalogs.night_scale", arguments)
        shown = ", ".join(
            f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items()
        )
        say(f"{rows} rows: {name} took {time.perf_counter() - begun:.0f} s in all; {shown}")
        return facts

    size = _millions(rows)
    with tempfile.TemporaryDirectory(prefix="mgc-night-") as name:
        folder = Path(name)
        made = step("make", folder)
        plans = [step("plan", folder) for _ in range(rounds)]
        seconds = [each["seconds"] for each in plans]
        gib = max(each["peak_bytes"] for each in plans) / 2**30
        tables = f"catalog {made['catalog_bytes'] / 1e6:.0f} MB, labels {made['labels_bytes'] / 1e6:.0f} MB"
        results = [
            Result(
                f"plan_{size}_seconds",
                statistics.median(seconds),
                {"1m": "at most 2", "10m": "at most 10"}.get(size, ""),
                f"{_range(seconds)}; peak {gib:.2f} GiB; {tables} in {made['labels_files']} files",
            ),
            Result(
                f"plan_{size}_gib",
                gib,
                {"10m": "at most 4"}.get(size, ""),
                f"the most of {rounds} processes, their imports ({plans[0]['imports_bytes'] / 2**30:.2f}) included",
            ),
        ]
        if commits:
            results.append(_commits(folder, rounds, size, step))
    return results


def _commits(folder: Path, rounds: int, size: str, step: Callable[[str, Path], dict[str, Any]]) -> Result:
    step("change", folder)
    kept = folder / "kept"
    Path(_labels(folder)).rename(kept)
    found = []
    for _ in range(rounds):
        # Each on the same table.
        shutil.copytree(kept, _labels(folder))
        found.append(step("commit", folder))
        shutil.rmtree(_labels(folder))
    seconds = [each["seconds"] for each in found]
    gib = max(each["peak_bytes"] for each in found) / 2**30
    return Result(
        f"commit_{size}_seconds",
        statistics.median(seconds),
        {"10m": "at most 15"}.get(size, ""),
        f"{_range(seconds)}; {found[0]['rows']} rows; planning and committing peak at {gib:.2f} GiB",
    )


def _range(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f} s in {len(seconds)} rounds"


@click.command()
@click.option(
    "--rows",
    multiple=True,
    type=click.IntRange(1),
    default=(1_000_000,),
    show_default=True,
    help="Catalog rows; may be repeated.",
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times that each is measured.")
@click.option("--commits/--no-commits", default=True, show_default=True, help="Measure the commit too.")
@click.option("--step", type=click.Choice(list(STEPS)), hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(rows: tuple[int, ...], rounds: int, commits: bool, step: str | None, folder: Path | None) -> None:
    """Time of planning and of committing a night, and the memory that planning takes. The last line is JSON."""
    if step is not None and folder is not None:
        print(json.dumps(STEPS[step](folder, rows[0])))
        return
    hand_over([result for count in rows for result in measure(count, rounds, commits)])


if __name__ == "__main__":
    main()
