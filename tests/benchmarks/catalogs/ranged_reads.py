"""Eight ranges of one object by boto3 on threads and by obstore, from the object store of the tests: CPU and time.

python -m tests.benchmarks.catalogs.ranged_reads
"""

from __future__ import annotations

import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from rich.console import Console
from rich.table import Table

from cluster.storage import files, s3
from cluster.storage.uri import Uri
from tests.support.object_store import running

SIZE_BYTES, RANGE_BYTES, RANGES, ROUNDS = 8_000_000, 100_000, 8, 20


def main() -> None:
    """Measure both in turn and print the medians."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as store:
        os.environ.update(store.environment())
        bucket, data = store.make_bucket(), secrets.token_bytes(SIZE_BYTES)
        uri = f"s3://{bucket}/track.mp3"
        files.write_bytes(Uri.parse(uri), data)
        starts = [number * SIZE_BYTES // RANGES + 1_000 for number in range(RANGES)]
        ends = [start + RANGE_BYTES for start in starts]
        client, view = s3.client(uri), s3.ranges(Uri.parse(uri).bucket, uri)

        def one(number: int) -> bytes:
            span = f"bytes={starts[number]}-{ends[number] - 1}"
            body: bytes = client.get_object(Bucket=bucket, Key="track.mp3", Range=span)["Body"].read()
            return body

        def other(number: int) -> bytes:
            return bytes(obstore.get(view, "track.mp3", options={"range": (starts[number], ends[number])}).bytes())

        with ThreadPoolExecutor(RANGES) as pool:
            ways: dict[str, Callable[[], list[bytes]]] = {
                "boto3, 8 threads": lambda: list(pool.map(one, range(RANGES))),
                # As the label job does it: each answer has its ETag.
                "obstore, 8 threads": lambda: list(pool.map(other, range(RANGES))),
                "obstore, get_ranges": lambda: [
                    bytes(part)
                    for part in obstore.get_ranges(view, "track.mp3", starts=starts, ends=ends, coalesce=65536)
                ],
            }
            wanted = [data[start:end] for start, end in zip(starts, ends, strict=True)]
            seen: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    begun, worked = time.perf_counter(), time.process_time()
                    parts = way()
                    seen[name].append((time.process_time() - worked, time.perf_counter() - begun))
                    if parts != wanted:
                        raise ValueError(f"{name} read other bytes than were written")
    table = Table("8 ranges of 100 kB by", "CPU ms", "ms")
    for name, figures in seen.items():
        cpu, wall = (1000 * statistics.median(column) for column in zip(*figures, strict=True))
        table.add_row(name, f"{cpu:.1f}", f"{wall:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
