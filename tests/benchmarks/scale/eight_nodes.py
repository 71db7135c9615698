"""What crosses between eight nodes while they label, and what a track costs the driver.

    python -m tests.benchmarks.scale.eight_nodes --data FOLDER

The nodes are on this machine, as `mgc cluster --nodes 8 --cpus 1` starts them, so this says nothing about speed. Each
has its own object store, raylet and workers, which reach each other by TCP alone. Bytes of audio should never cross: a
file is fetched, decoded and turned into features by one process. Its features cross if the actor that predicts is on
another node. Exit code 1 says that more than a tenth of the audio's bytes crossed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import numpy as np
import pyarrow.parquet as pq
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from cluster.labels.table import LabelsTable
from cluster.session import local_cluster
from cluster.session.local_cluster import LocalCluster, LocalClusterSpec
from cluster.storage.uri import Uri
from mgc.bundle import load_bundle
from mgc.bundle_names import BundleName
from tests.benchmarks import music
from tests.benchmarks.label.label_speed import make_catalog
from tests.benchmarks.label.label_steady import DONE, MIDDLE
from tests.benchmarks.options import DATA
from tests.benchmarks.result import say
from tests.benchmarks.scale.watch import DRIVER, GCS, RAYLET
from tests.benchmarks.scale.wire import HEAD, UNKNOWN, End, Moment, Sent, Wire

NODES: Final = 8
IDLE_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 3.0
REPORTED_SECONDS: Final = 15.0
"""Time after which a raylet's counters are those of the end of the job."""

MOST_SHARE: Final = 0.1
"""Of the audio's bytes that may cross."""

_DONE: Final = (0, 3)
_COUNTERS: Final = {"ray_object_manager_bytes": "Type", "ray_grpc_server_req_finished": "Method"}
"""Counters of Ray's nodes, and the label by which each counts apart."""

_NOTHING: Final = Sent(0, 0)


@dataclass(frozen=True)
class Seen:
    """What was seen of a job.

    Attributes:
        tracks: that it had labelled at each line of progress, with the moment.
        before: the moment at which it began.
        after: the moment at which it had ended.
        seconds: from its start to its end.
        code: its exit code.
    """

    tracks: Sequence[tuple[int, Moment]]
    before: Moment
    after: Moment
    seconds: float
    code: int


def scrape(cluster: LocalCluster) -> Counter[str]:
    """Ray's own counters of all nodes: name, process that counts, and what it counts apart."""
    found = Counter[str]()
    for group in json.loads(cluster.scraped.read_text()):
        for target in group["targets"]:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
                text = answer.read().decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples if family.name in _COUNTERS else []:
                    by, kind = (sample.labels.get(name, "") for name in ("Component", _COUNTERS[family.name]))
                    found[f"{family.name} {by} {kind}"] += round(sample.value)
    return found


def label(words: Sequence[str], cluster: LocalCluster, wire: Wire) -> Seen:
    """Run a label job on the cluster, and look at the wire meanwhile."""
    before, tracks, began = wire.look(), list[tuple[int, Moment]](), time.monotonic()
    looking, over = threading.Lock(), threading.Event()

    def look() -> Moment:
        with looking:
            return wire.look()

    def follow() -> None:
        while not over.wait(LOOK_SECONDS):
            look()

    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(cluster.environment)
    ) as job:
        assert job.stderr is not None
        wire.follow(job.pid)
        thread = threading.Thread(target=follow)
        thread.start()
        try:
            for line in job.stderr:
                say(f"{time.monotonic() - began:7.1f} s  {line.rstrip()}")
                if done := DONE.match(line):
                    tracks.append((int(done[1].replace(",", "")), look()))
        finally:
            over.set()
            thread.join()
    return Seen(tracks, before, look(), time.monotonic() - began, job.returncode)


def went(before: Moment, after: Moment) -> dict[tuple[End, End], Sent]:
    """What went from one kind of process to another between two moments, by sender and receiver."""
    found = {}
    for ends, sent in after.sent.items():
        earlier = before.sent.get(ends, _NOTHING)
        found[ends] = Sent(sent.size_bytes - earlier.size_bytes, sent.segments - earlier.segments)
    return found


def crossing(one: End, other: End) -> bool:
    """Whether two ends are on different nodes."""
    return one.node != other.node


def summed(flows: Mapping[tuple[End, End], Sent], wanted: Callable[[End, End], bool]) -> Sent:
    """The sum of some flows."""
    some = [sent for ends, sent in flows.items() if wanted(*ends)]
    return Sent(sum(each.size_bytes for each in some), sum(each.segments for each in some))


def by_kinds(flows: Mapping[tuple[End, End], Sent]) -> dict[str, Sent]:
    """What went from node to node, by kind of sender and of receiver, the most bytes first."""
    sums = Counter[str]()
    segments = Counter[str]()
    for (one, other), sent in flows.items():
        if crossing(one, other):
            sums[f"{one.kind} to {other.kind}"] += sent.size_bytes
            segments[f"{one.kind} to {other.kind}"] += sent.segments
    return {name: Sent(size_bytes, segments[name]) for name, size_bytes in sums.most_common()}


def cpu_a_track(seen: Seen, tracks: int) -> dict[str, float]:
    """CPU in ms a track in the middle of the job, of what a cluster has once; empty if it said too seldom how far."""
    early, late = (next((each for each in seen.tracks if each[0] >= share * tracks), None) for share in MIDDLE)
    if early is None or late is None or early[0] == late[0]:
        return {}
    count = late[0] - early[0]
    return {
        kind: 1000 * (late[1].cpu_seconds[End(HEAD, kind)] - early[1].cpu_seconds[End(HEAD, kind)]) / count
        for kind in (DRIVER, GCS, RAYLET, "counters")
    }


@dataclass(frozen=True)
class Crossed:
    """What eight nodes said to each other.

    Attributes:
        code: exit code of the job.
        seconds: from its start to its end.
        tracks: of the catalog.
        rows: of the labels table.
        audio_bytes: size of the files, all of which were read.
        feature_bytes: size of the features of a track.
        idle_bytes_per_second: from node to node before the job began.
        crossed: from node to node during the job.
        objects: of it from raylet to raylet: blocks of the object store.
        driver_sent: by the driver, to whatever process.
        driver_received: by the driver.
        unknown: to processes that had ended before both ends were seen.
        by_kinds: from node to node, by kinds of processes.
        cpu_ms_a_track: of what a cluster has once.
        counters: Ray's own, how much they grew.
    """

    code: int
    seconds: float
    tracks: int
    rows: int
    audio_bytes: int
    feature_bytes: int
    idle_bytes_per_second: float
    crossed: Sent
    objects: Sent
    driver_sent: Sent
    driver_received: Sent
    unknown: Sent
    by_kinds: Mapping[str, Sent]
    cpu_ms_a_track: Mapping[str, float]
    counters: Mapping[str, int]


def run(catalog: str, labels: Path, bundle: str) -> Crossed:
    """Label a catalog on eight nodes."""
    words = [sys.executable, "-m", "pipelines.label", catalog, "--labels", str(labels), "--bundle", bundle]
    with (
        tempfile.TemporaryDirectory(prefix="mgc-cluster-") as folder,
        local_cluster.running(LocalClusterSpec(os.environ, NODES, 1, dashboard=True), Path(folder)) as cluster,
    ):
        roots = {HEAD: cluster.head.processes()[0]}
        roots |= {f"node {number}": node.processes()[0] for number, node in enumerate(cluster.nodes, 1)}
        wire = Wire(roots)
        first = wire.look()
        time.sleep(IDLE_SECONDS)
        idle = summed(went(first, wire.look()), crossing)
        counted = scrape(cluster)
        seen = label(words, cluster, wire)
        time.sleep(REPORTED_SECONDS)
        counters = scrape(cluster)
        counters.subtract(counted)
    sizes = pq.read_table(catalog, columns=["size_bytes"])["size_bytes"].to_pylist()
    flows = went(seen.before, seen.after)
    heard = load_bundle(bundle).meaning
    return Crossed(
        code=seen.code,
        seconds=seen.seconds,
        tracks=len(sizes),
        rows=LabelsTable(Uri.of_path(labels)).dataset().count_rows(),
        audio_bytes=sum(sizes),
        feature_bytes=math.prod(heard.shape) * np.dtype(heard.dtype).itemsize,
        idle_bytes_per_second=idle.size_bytes / IDLE_SECONDS,
        crossed=summed(flows, crossing),
        objects=summed(flows, lambda one, other: crossing(one, other) and one.kind == other.kind == RAYLET),
        driver_sent=summed(flows, lambda one, other: one.kind == DRIVER),
        driver_received=summed(flows, lambda one, other: other.kind == DRIVER),
        unknown=summed(flows, lambda one, other: other.kind == UNKNOWN),
        by_kinds=by_kinds(flows),
        cpu_ms_a_track=cpu_a_track(seen, len(sizes)),
        counters={name: count for name, count in counters.most_common() if count},
    )


def show(seen: Crossed) -> None:
    """Print what was seen, for a person."""
    table = Table("from node to node", "MB", "bytes a track", "segments a track")
    rows = {"audio heard": Sent(seen.audio_bytes, 0), "all that crossed": seen.crossed, **seen.by_kinds}
    rows |= {"sent by the driver": seen.driver_sent, "received by the driver": seen.driver_received}
    for name, sent in rows.items():
        each = (f"{sent.size_bytes / 1e6:.2f}", f"{sent.size_bytes / seen.tracks:,.0f}")
        table.add_row(name, *each, f"{sent.segments / seen.tracks:.1f}")
    Console(stderr=True, width=120).print(table)
    for name, count in seen.counters.items():
        say(f"{name}: {count:,}")
    say(", ".join(f"{kind} {cpu:.2f} ms of CPU a track" for kind, cpu in seen.cpu_ms_a_track.items()))
    say(
        f"{seen.rows} rows of {seen.tracks} tracks in {seen.seconds:.0f} s; features of a track {seen.feature_bytes:,} "
        f"bytes; {seen.idle_bytes_per_second:,.0f} bytes a second crossed before; unknown {seen.unknown.size_bytes:,}"
    )


def faults(seen: Crossed) -> list[str]:
    """What is wrong, whatever the machine's speed."""
    found = []
    if seen.code not in _DONE:
        found.append(f"the job ended with {seen.code}")
    if seen.rows != seen.tracks:
        found.append(f"{seen.rows} rows of {seen.tracks} tracks")
    if seen.crossed.size_bytes > MOST_SHARE * seen.audio_bytes:
        found.append(f"{seen.crossed.size_bytes} bytes crossed for {seen.audio_bytes} bytes of audio")
    return found


@click.command()
@DATA
@click.option("--tracks", type=click.IntRange(20), default=600, show_default=True, help="Of 30 s, 256 kbit/s.")
@click.option("--bundle", default=BundleName.SHIPPED.value, show_default=True, help="The model.")
def main(data: Path | None, tracks: int, bundle: str) -> None:
    """Bytes and messages between eight nodes. The table goes to stderr, the last line is JSON."""
    clips = music.thirty_seconds(data)
    say(f"{clips.origin}, {tracks} tracks; load {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory(prefix="mgc-eight-") as name:
        catalog = make_catalog(Path(name) / "catalog", clips.files, tracks)
        seen = run(catalog.uri, Path(name) / "labels", bundle)
    show(seen)
    wrong = faults(seen)
    print(json.dumps(dataclasses.asdict(seen) | {"faults": wrong}), flush=True)
    for fault in wrong:
        say(f"fault: {fault}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
