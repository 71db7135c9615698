"""Writing, checking, joining and comparing a catalog of ten million tracks: seconds and peak memory of each step.

python -m tests.benchmarks.catalogs.catalog_scale [--rows 10000000]

Each step runs in a process of its own. `write` is what `mgc catalog` does once the keys are listed: join metadata,
divide by artist, compare with the last listing, write. `check` is `read_catalog` of what it wrote, `check_unsorted` of
the same rows in another order, `table` all columns in memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog, write_catalog
from cluster.tables.catalog_changes import earlier_listing
from mgc import schema
from pipelines.catalogs.index import add_splits, count_rows
from pipelines.catalogs.metadata import from_table, join_metadata

SOURCE = "/catalog-of-music/audio"
PART = 20_000


def tracks(rows: int, night: int) -> Iterator[pa.Table]:
    """What a listing gives, a part at a time; every hundredth track is another the next night."""
    for first in range(0, rows, PART):
        numbers = np.arange(first, min(first + PART, rows))
        texts = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")
        ids = pc.binary_join_element_wise("artist ", pc.utf8_slice_codeunits(texts, 0, 6), "/album/", texts, ".mp3", "")
        # As long and as hard to compress as an ETag.
        bytes_of = np.where(numbers % 100 == 0, numbers + night, numbers).astype(np.uint64)
        halves = [
            pa.array(bytes_of * np.uint64(odd)).cast(pa.string()) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
        ]
        tags = pc.utf8_slice_codeunits(pc.binary_join_element_wise(*halves, ""), 0, 32)
        given = {
            "track_id": ids,
            "uri": pc.binary_join_element_wise(SOURCE, ids, "/"),
            "size_bytes": pa.array(numbers + 8_000_000),
            "content_tag": tags,
        }
        columns = [given.get(each.name, pa.nulls(len(numbers), each.type)) for each in schema.CATALOG]
        yield pa.table(columns, schema=schema.CATALOG)


def metadata(rows: int) -> pa.Table:
    """An artist of every track, as `read_metadata` gives it."""
    parts = (each.select(["track_id"]) for each in tracks(rows, 0))
    known = pa.concat_tables(parts)
    artists = pc.utf8_slice_codeunits(known["track_id"], 0, 13)
    return known.append_column("artist_id", artists).append_column(
        "genre_top", pc.utf8_slice_codeunits(artists, 12, 13)
    )


def write(folder: str, rows: int) -> dict[str, int]:
    """The second night's catalog over the first's."""
    target, counts = Uri.parse(f"{folder}/catalog.parquet"), dict[str, int]()
    listed = count_rows(tracks(rows, 1), counts, earlier_listing(target, Uri.parse(SOURCE)), target)
    joined = join_metadata(listed, from_table(metadata(rows), "metadata"), counts)
    write_catalog(target, (add_splits(table, "artist_id", 0) for table in joined), source=Uri.parse(SOURCE))
    return counts


STEPS: dict[str, Callable[[str, int], Any]] = {
    "first_write": lambda folder, rows: write_catalog(Uri.parse(folder), tracks(rows, 0), source=Uri.parse(SOURCE)),
    "metadata": lambda folder, rows: metadata(rows).num_rows,
    "write": write,
    "check": lambda folder, rows: read_catalog(Uri.parse(folder)).count_rows(),
    "table": lambda folder, rows: load_catalog(read_catalog(Uri.parse(folder))).num_rows,
    "write_unsorted": lambda folder, rows: write_catalog(
        Uri.parse(f"{folder}/other/catalog.parquet"), reversed([*tracks(rows, 0)]), roots=[Uri.parse(SOURCE)]
    ),
    "check_unsorted": lambda folder, rows: read_catalog(Uri.parse(f"{folder}/other")).count_rows(),
}


def step(name: str, folder: str, rows: int, answer: Connection) -> None:
    """Run a step and send its cost."""
    began, worked = time.perf_counter(), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = STEPS[name](folder, rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.send(
        {
            "seconds": round(time.perf_counter() - began, 2),
            "cpu_seconds": round(time.process_time() - worked, 2),
            "peak_gib": round(peak / 2**20, 2),
            "of_it_imports_gib": round(before / 2**20, 2),
            "outcome": outcome,
        }
    )


def main() -> None:
    """Run all steps and print their costs, JSON last."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.catalogs.catalog_scale")
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    spawn = multiprocessing.get_context("spawn")
    costs: dict[str, Any] = {"rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        for name in STEPS:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=step, args=(name, f"{folder}/catalog", rows, theirs))
            process.start()
            theirs.close()
            costs[name] = ours.recv()
            process.join()
            print(f"{name:<15}", json.dumps(costs[name]), flush=True)
        costs["catalog_mib"] = round(Path(f"{folder}/catalog/catalog.parquet").stat().st_size / 2**20, 1)
    print(json.dumps(costs))


if __name__ == "__main__":
    main()
