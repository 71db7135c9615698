"""Files in memory at once: bounded by what is read of them, whatever a catalog says of their sizes."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage import files
from cluster.storage.budget import Budget, PostponedError, first_that_fit
from cluster.storage.fetch import Fetch
from cluster.storage.uri import Uri
from cluster.streams import listening
from cluster.streams.listening import Listen, ListenRequest
from mgc import schema
from mgc.audio.excerpts import ListeningPlan
from mgc.recipes.house import house
from tests.cluster.storage.fetched import batch_of

MIB = 2**20
LIES = (1, 0, -1, 2**60, -(2**62), 512)
"""Sizes that a catalog may state."""

ROOT = Path(__file__).parents[3]


def lying_batch(source: str, sizes: Sequence[int] = LIES) -> dict[str, np.ndarray]:
    batch = batch_of(source)
    return batch | {"size_bytes": np.array(sizes[: len(batch["uri"])], np.int64)}


def make_sparse(folder: Path, size_bytes: int, count: int = 6) -> None:
    """Files of zeros that take no room on the disk."""
    for number in range(count):
        with (folder / f"{number}.wav").open("wb") as file:
            file.truncate(size_bytes)


class TestBudget:
    def test_a_track_alone_may_hold_any_size(self) -> None:
        budget = Budget(100)
        budget.reserve(0, 60)
        budget.reserve(0, 6000)
        with pytest.raises(PostponedError) as caught:
            budget.reserve(1, 7)
        assert caught.value.needed_bytes == 7
        budget.release(0)
        budget.reserve(1, 60)
        budget.reserve(2, 40)
        with pytest.raises(PostponedError) as caught:
            budget.reserve(2, 1)
        assert caught.value.needed_bytes == 41
        budget.reserve(1, 40)

    @given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=4), min_size=1, max_size=8), st.integers(1, 100))
    def test_each_part_finishes_a_track_and_keeps_to_the_limit(self, reads: list[list[int]], limit: int) -> None:
        """Threads that read by turns, in whatever order they come."""
        needs = dict.fromkeys(range(len(reads)), 0)
        for _ in range(len(reads)):
            chosen, budget = first_that_fit(needs, limit), Budget(limit)
            start = threading.Barrier(len(chosen))

            def read(track: int, budget: Budget = budget, start: threading.Barrier = start) -> bool:
                start.wait()
                try:
                    for size in reads[track]:
                        budget.reserve(track, size)
                except PostponedError as error:
                    needs[track] = error.needed_bytes
                    return False
                return True

            with ThreadPoolExecutor(len(chosen)) as threads:
                done = [track for track, well in zip(chosen, threads.map(read, chosen), strict=True) if well]
            assert done
            held = [sum(reads[track]) for track in done]
            assert len([size for size in held if size]) <= 1 or sum(held) <= limit
            for track in done:
                del needs[track]
            if not needs:
                return
        raise AssertionError("some track never came")


@pytest.mark.parametrize("plan", [None, ListeningPlan()])
def test_parts_that_fit_whatever_the_catalog_says(plan: ListeningPlan | None, base: str) -> None:
    data = {f"{number}.mp3": secrets.token_bytes(300_000 + number) for number in range(6)}
    for name, content in data.items():
        files.write_bytes(Uri.parse(f"{base}/{name}"), content)
    batch = lying_batch(base)
    found: dict[str, bytes] = {}
    parts = 0
    for part in Fetch(plan=plan).in_parts(batch, 1_000_000):
        parts += 1
        assert list(part.batch["uri"]) == list(batch["uri"][part.rows])
        assert not any(part.batch["error_kind"])
        assert sum(map(len, part.batch["recording"])) <= 1_000_000
        found |= dict(zip(part.batch["track_id"], part.batch["recording"], strict=True))
    assert found == data
    assert parts >= 2


def test_a_file_larger_than_the_limit_comes_alone(base: str) -> None:
    sizes = (10, 5000, 20, 6000, 30, 0)
    for number, size in enumerate(sizes):
        files.write_bytes(Uri.parse(f"{base}/{number}.mp3"), bytes(size))
    parts = list(Fetch().in_parts(lying_batch(base), 100))
    assert sorted(row for part in parts for row in part.rows) == list(range(6))
    for part in parts:
        held = [sizes[row] for row in part.rows if sizes[row]]
        assert len(held) <= 1 or sum(held) <= 100


def listen_stage() -> Listen:
    columns = pa.schema([schema.CATALOG.field(name) for name in schema.CATALOG_REQUIRED])
    return Listen(ListenRequest(None, 6, columns, house().hearing))


def test_the_stage_holds_few_of_six_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 MiB that the catalog calls bytes, where 2.5 may be held."""
    make_sparse(tmp_path, 2 * MIB)
    monkeypatch.setattr(listening, "HELD_BYTES", 5 * MIB // 2)
    listen = listen_stage()
    tracemalloc.start()
    try:
        heard = listen(lying_batch(str(tmp_path)))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert heard["track_id"].to_pylist() == [f"{number}.wav" for number in range(6)]
    assert set(heard["error_kind"].to_pylist()) == {"not_audio"}
    assert peak_bytes < 2 * listening.HELD_BYTES + MIB


_MEASURE = """
import json, resource, sys
from cluster.streams import listening
from tests.cluster.storage.test_fetch_memory import listen_stage, lying_batch

listening.HELD_BYTES = 64 * 2**20
listen = listen_stage()
listen(lying_batch(sys.argv[1] + "/small"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
heard = listen(lying_batch(sys.argv[1] + "/large"))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
rows = heard.select(["track_id", "error_kind"]).to_pylist()
print(json.dumps({"grown": grown << 10, "held": listening.HELD_BYTES, "rows": rows}))
"""


@pytest.mark.drill
def test_the_stage_holds_few_of_six_large_files(tmp_path: Path) -> None:
    """300 MiB that the catalog calls bytes, where 64 may be held. A file is copied once on its way to the decoder."""
    for name, size_bytes in (("small", 1000), ("large", 50 * MIB)):
        (tmp_path / name).mkdir()
        make_sparse(tmp_path / name, size_bytes)
    answer = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr
    facts = json.loads(answer.stdout.splitlines()[-1])
    assert [row["track_id"] for row in facts["rows"]] == [f"{number}.wav" for number in range(6)]
    assert {row["error_kind"] for row in facts["rows"]} == {"not_audio"}
    assert facts["grown"] < 2 * facts["held"] + 64 * MIB
