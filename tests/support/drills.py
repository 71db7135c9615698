"""Kill drills: the label job on a cluster of several nodes, and a worker, a node or the driver killed at a moment.

A moment is held, so that every drill hits it: the proxy before the object store lets the request that marks it wait
until the kill has happened. What was in flight then reaches the store late or, of a killed driver's commit, not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.labels.table import LabelsTable
from cluster.session import ray_internals
from cluster.session.local_cluster import LocalCluster, Node, descendants, still_there
from cluster.storage import files
from cluster.storage.listing.facts import etag
from cluster.storage.uri import Uri
from cluster.tables.catalog import write_catalog
from mgc import schema
from mgc.datasets.synthetic import SyntheticConfig, plan_corpus, render
from mgc.datasets.synthetic.encode import encode_mp3
from tests.support.damage import damaged_file
from tests.support.fault_proxy import Fault, Faults, Proxy, Request
from tests.support.good_files import GoodFile
from tests.support.object_store import ObjectStore

KINDS: Final = ("worker", "node", "driver")
MOMENTS: Final = ("early", "middle", "late")

_RATE_HZ: Final = 22050
_DAMAGES: Final = ("truncated", "many_flips", "text", "empty")
_OF_THE_RUN: Final = ("run_id", "labeled_at", "next_try_at")
"""Columns that tell one run from another."""

DAMAGED: Final = 8

PATIENCE_SECONDS: Final = 240.0


@dataclass(frozen=True)
class Music:
    """A catalog in a bucket of its own."""

    bucket: str
    tracks: int

    @property
    def catalog(self) -> str:
        return f"s3://{self.bucket}/catalog.parquet"

    def labels(self, name: str) -> str:
        return f"s3://{self.bucket}/{name}/labels"


@dataclass(frozen=True)
class Drill:
    """How a drill went.

    Attributes:
        kind: what was killed.
        moment: when.
        tracks: in the catalog.
        staged: of them had a staged row at that moment, or, after a driver, at the resubmission.
        twice: files that were read once more; one that was read three times counts twice.
        submissions: of the job until it was done.
        seconds: from its start to its end, a resubmission included.
    """

    kind: str
    moment: str
    tracks: int
    staged: int
    twice: int
    submissions: int
    seconds: float

    def line(self) -> str:
        return (
            f"{self.kind:<7} {self.moment:<7} {self.tracks:>6} {self.staged:>9} {self.twice:>6} "
            f"{self.submissions:>11} {self.seconds:>8.1f}"
        )

    HEAD = f"{'killed':<7} {'moment':<7} {'tracks':>6} {'staged':>9} {'twice':>6} {'submissions':>11} {'seconds':>8}"


def make_music(store: ObjectStore, tracks: int, damaged: int = DAMAGED, seconds: float = 3.5) -> Music:
    """So many short MP3s, each another stretch of one piece, a few of them damaged; and their catalog."""
    bucket = store.make_bucket()
    lasting = 60.0
    config = SyntheticConfig(shortest_seconds=lasting, longest_seconds=lasting, damaged_tracks=0)
    plan = next(each for each in plan_corpus(config) if (each.channels, each.sample_rate_hz) == (1, _RATE_HZ))
    music_CT = render(plan)
    rng = np.random.default_rng(3)
    length = round(seconds * _RATE_HZ)
    client = store.client()

    def put(name: str, data: bytes) -> dict[str, Any]:
        tag = etag(client.put_object(Bucket=bucket, Key=f"audio/{name}", Body=data)["ETag"])
        return {"track_id": name, "uri": f"s3://{bucket}/audio/{name}", "size_bytes": len(data), "content_tag": tag}

    with contextlib.closing(client), ThreadPoolExecutor(8) as threads:
        puts = []
        for number in range(tracks):
            start = round((lasting - seconds) * _RATE_HZ * number / tracks)
            data = encode_mp3(
                np.ascontiguousarray(music_CT[:, start : start + length]), sample_rate_hz=_RATE_HZ,
                channel_mode="mono", bit_rate_kbps=48, vbr_quality=None, tags={"title": str(number)},
            )  # fmt: skip
            if number % (tracks // damaged) == 5:
                file = GoodFile(f"{number:04}.mp3", data, _RATE_HZ, 1, 48)
                data = damaged_file(_DAMAGES[number * damaged // tracks % len(_DAMAGES)], file, [file], rng).data
            puts.append(threads.submit(put, f"{number:04}.mp3", data))
        rows = [each.result() for each in puts]
    music = Music(bucket, tracks)
    names = [name for name in schema.CATALOG.names if name not in schema.CATALOG_REQUIRED]
    table = pa.Table.from_pylist([{**row, **dict.fromkeys(names)} for row in rows], schema.CATALOG)
    assert write_catalog(Uri.parse(music.catalog), [table]) == tracks
    return music


class Job:
    """The label job as a process of its own."""

    def __init__(self, cluster: LocalCluster, music: Music, labels: str, log: Path) -> None:
        command = [sys.executable, "-m", "pipelines.label", music.catalog, "--bundle", "shipped", "--labels", labels]
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=Path(__file__).parents[2],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**cluster.environment, "MGC_STALL_SECONDS": "60"},
            )

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> list[int]:
        """SIGKILL to the driver and all below it, whose ids are returned."""
        processes = descendants(self.process.pid)
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=10)
        return processes

    def end(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.kill()

    def wait(self) -> dict[str, Any]:
        """Its summary, and its exit code as `code`."""
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        summary = next((line for line in reversed(self.said.splitlines()) if line.startswith('{"job"')), "{}")
        return {**json.loads(summary), "code": code}


def rows_of(labels: str) -> list[dict[str, Any]]:
    """The rows of a labels table, without what tells one run from another."""
    table = LabelsTable(Uri.parse(labels)).dataset().to_table().sort_by("track_id")
    return table.drop_columns(list(_OF_THE_RUN)).to_pylist()


def staged_rows(labels: str) -> int:
    """Tracks with a staged row."""
    found: set[str] = set()
    for uri in files.list_uris(Uri.parse(f"{labels}/_runs")):
        if "/staged/" in uri.path:
            data = pa.BufferReader(files.read_bytes(uri))
            found.update(pq.read_table(data, columns=["track_id"])["track_id"].to_pylist())
    return len(found)


class Moment:
    """Holds the n-th request of a kind, and those after it, until it is released."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._reached, self._released = threading.Event(), threading.Event()

    def __call__(self, request: Request) -> None:
        self._left -= 1
        if self._left <= 0:
            self._reached.set()
            self._released.wait(PATIENCE_SECONDS)

    def has_come(self) -> bool:
        """Whether it is reached."""
        return self._reached.is_set()

    def wait(self, job: Job) -> None:
        """Until it is reached."""
        _until(self.has_come, job)

    def release(self) -> None:
        self._released.set()


def _until(reached: Callable[[], bool], job: Job) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert job.process.poll() is None, job.said
        assert time.monotonic() < deadline, f"the moment does not come:\n{job.said}"
        time.sleep(0.1)


def held_at(kind: str, moment: str, tracks: int) -> tuple[Moment, Faults]:
    """What marks a moment.

    early: the plan is frozen, the fifth file is asked for. middle: three fifths of the files are asked for, and of the
    driver also the first rows are staged, for which 320 tracks are enough.
    late: of a worker or a node, the first rows are on their way to the store; of the driver, all rows are staged, and
    the entry in the table's log is on its way, which then does not arrive.
    """
    if moment != "late":
        held = Moment(5 if moment == "early" else tracks * 3 // 5)
        return held, Faults(key="audio/*", call=held)
    held = Moment(1)
    if kind == "driver":
        return held, Faults((Fault.RESET,), key="*/_delta_log/*.json", methods=("PUT",), nth=(1,), call=held)
    return held, Faults(key="*/staged/*", methods=("PUT",), call=held)


def drill(
    kind: str,
    moment: str,
    cluster: LocalCluster,
    music: Music,
    proxy: Proxy,
    undisturbed: list[dict[str, Any]],
    logs: Path,
) -> Drill:
    """Label the catalog into a table of its own with one kill on the way, and check what is in the table afterwards.

    Args:
        kind: what is killed: `worker`, `node` or `driver`.
        moment: when: `early`, `middle` or `late`; see `held_at`.
        cluster: a node of it that was killed before is replaced first.
        music: the catalog.
        proxy: before the object store that the cluster was told of.
        undisturbed: rows of a table that nothing disturbed; see `rows_of`.
        logs: a folder.
    """
    started = time.monotonic()
    labels = music.labels(f"{kind}-{moment}")
    held, faults = held_at(kind, moment, music.tracks)
    cluster.fill()
    proxy.forget()
    with proxy.armed(faults), contextlib.ExitStack() as ending:
        ending.callback(held.release)
        job = Job(cluster, music, labels, logs / f"{kind}-{moment}-1.log")
        ending.callback(job.end)
        held.wait(job)
        if (kind, moment) == ("driver", "middle"):
            # What was read goes on its way meanwhile, so that there is something to go on from.
            _until(lambda: staged_rows(labels) > 0, job)
        finished = staged_rows(labels)
        left = _kill(kind, moment, cluster, job)
        held.release()
        # What was killed is gone, with all that it had started, and nothing else is.
        still = still_there(left, 20.0)
        assert not still, still
        result = job.wait() if kind != "driver" else None
    submissions = 1
    if result is None:
        assert not LabelsTable(Uri.parse(labels)).exists
        job = Job(cluster, music, labels, logs / f"{kind}-{moment}-2.log")
        with contextlib.ExitStack() as ending:
            ending.callback(job.end)
            result = job.wait()
        submissions += 1
        # The cluster's workers may have written more rows before they noticed.
        found = re.search(rf"an earlier run .* ([\d,]+) of {music.tracks:,} tracks", job.said)
        again = int(found[1].replace(",", "")) if found else music.tracks if finished == music.tracks else 0
        assert again >= finished, job.said
        finished = again
    assert (result["code"], result.get("status")) == (0, "done"), job.said
    assert rows_of(labels) == undisturbed
    assert len(LabelsTable(Uri.parse(labels)).delta.history()) == 1
    assert not files.list_uris(Uri.parse(f"{labels}/_runs"))
    reads = [request.key for request in proxy.requests("GET", key="audio/*", bucket=music.bucket)]
    assert len(set(reads)) == music.tracks
    return Drill(
        kind, moment, music.tracks, finished, len(reads) - music.tracks, submissions, time.monotonic() - started
    )


def _kill(kind: str, moment: str, cluster: LocalCluster, job: Job) -> list[int]:
    """Returns the ids of all processes that have to be gone."""
    if kind == "driver":
        return job.kill()
    # A task that is writing rows, or an actor that is hearing tracks: the title holds the method that it runs.
    name = ray_internals.WRITE_TASK if moment == "late" else ray_internals.busy_map_worker("Listen")

    def find() -> list[tuple[Node, int]]:
        return [(node, worker) for node in cluster.nodes for worker in node.workers(name)]

    # What is held may be on the head, which is not killed. Then the next one has to go elsewhere.
    _until(lambda: bool(find()), job)
    node, worker = find()[0]
    if kind == "node":
        return cluster.kill(node)
    processes = descendants(worker)
    os.kill(worker, signal.SIGKILL)
    return processes
