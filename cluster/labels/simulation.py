"""Forecast a night on a large cluster: hours and cost by number of nodes, from rates measured on one machine.

The model is a closed queueing network, solved by mean value analysis (Reiser and Lavenberg, Journal of the ACM 27,
1980). The analysis is exact for exponential service times, so it is slightly pessimistic for our steadier blocks.
Blocks of tracks circulate in the network. Each core of each node works on one block at a time and takes the next one
when the block is staged. A block

- waits for storage, as long as latency and connection speed require. A batch of tracks is fetched at once, and the core
  is idle meanwhile;
- uses its core for decoding, features and, where nodes have no GPU, the network, divided by the measured efficiency of
  the label job;
- queues for its node's network card and GPUs, behind the other blocks of the node;
- queues for the bucket's requests, the bucket's bandwidth and the driver, behind all blocks of the cluster. The driver
  handles one event at a time, however many nodes there are.

The start of the nodes and the plan come before the stream. After it come the tail (the slowest of the last blocks,
while other cores are idle) and the commit, which one machine does alone. A share of the work is done twice, because
nodes are lost. The cost covers every node from its start to the commit, and the requests.

The model leaves out spilling, autoscaling, cores that slow each other down through memory (so rates must be measured
with all cores busy), actors that start later on many nodes, and throttled requests that are repeated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.audio.excerpts import ListeningPlan
from mgc.configuration import STRICT
from mgc.errors import ConfigError
from mgc.labeling.throughput import Throughput
from mgc.units import GIB

Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]


@dataclass(frozen=True, config=STRICT)
class Workload:
    """The tracks to label.

    Attributes:
        name: name of the workload, for the table.
        tracks: number of tracks.
        size_bytes: average size of a track.
        duration_seconds: average length of a track.
        heard_seconds: average number of seconds that mgc listens to.
        windows: number of windows that mgc listens to; each is one request.
        known_rows: rows of the labels table before the night; 0 for a first night.
    """

    name: str
    tracks: Annotated[int, Field(ge=1)]
    size_bytes: Positive
    duration_seconds: Positive
    heard_seconds: Positive = 24.0
    windows: Annotated[int, Field(ge=1)] = 8
    known_rows: Annotated[int, Field(ge=0)] = 0

    def heard_by(self, plan: ListeningPlan) -> Workload:
        """Return the same tracks with another listening plan, as if each had the average length."""
        excerpts = plan.excerpts(self.duration_seconds)
        heard_seconds = sum(each.seconds for each in excerpts)
        return dataclasses.replace(self, heard_seconds=heard_seconds, windows=len(excerpts))


FMA_FULL: Final = Workload("FMA-full", tracks=106_574, size_bytes=879 * GIB / 106_574, duration_seconds=270.0)
"""879 GiB of untrimmed tracks (Defferrard et al., ISMIR 2017); mgc listens to eight excerpts of 3 s."""

TEN_MILLION: Final = dataclasses.replace(FMA_FULL, name="ten million tracks", tracks=10_000_000)
"""Ten million tracks like those of FMA-full."""


@dataclass(frozen=True, config=STRICT)
class Rates:
    """Measured rates of one core. The defaults are those of BENCHMARKS.md, which `make bench` measures.

    Attributes:
        listen_seconds: core seconds for decoding and features, per second of audio (`excerpt_speedup`: 24.9 ms for
            eight excerpts of 3 s).
        predict_seconds: core seconds of the network, per second of audio (10 ms for the ten clips of 30 s).
        gpu_predict_seconds: GPU seconds of the network, per second of audio; None if not measured.
        efficiency: share of a core's time that Ray leaves to the stages (`label_efficiency`).
        read_overhead: share of a file's bytes that is read, over the share of its seconds that is decoded
            (`excerpt_bytes_share`: 0.117 for 0.100).
        plan_seconds_per_million: seconds for each million rows of the catalog (`plan_10m_seconds`).
        commit_seconds_per_million: seconds for each million rows, copied rows included (`commit_10m_seconds`).
        driver_seconds_per_block: CPU of the driver for the tasks of a block, measured over 100,000 tracks: 0.18 ms a
            track. The 72 ms a second that it takes besides, whatever the rate, are left out.
        tracks_per_block: number of tracks in a block of a long catalog.
        tracks_per_batch: number of tracks fetched together.
        redone_share: share of the work that is done twice.
        straggler_factor: time of the slowest of the last blocks over the average.
    """

    listen_seconds: Positive = 0.0249 / 24
    predict_seconds: NotNegative = 0.001 / 3
    gpu_predict_seconds: NotNegative | None = None
    efficiency: Share = 0.85
    read_overhead: Annotated[float, Field(ge=1.0)] = 1.17
    plan_seconds_per_million: NotNegative = 1.1
    commit_seconds_per_million: NotNegative = 1.5
    driver_seconds_per_block: NotNegative = 0.012
    tracks_per_block: Annotated[int, Field(ge=1)] = 64
    tracks_per_batch: Annotated[int, Field(ge=1)] = 8
    redone_share: NotNegative = 0.01
    straggler_factor: Annotated[float, Field(ge=1.0)] = 3.0

    def calibrated(self, runs: Sequence[Throughput]) -> Rates:
        """Return these rates, replaced by those of past runs of the label job wherever the runs measured them.

        Args:
            runs: runs of the same model, on cores like those of the cluster.
        """
        heard = sum(run.heard_seconds for run in runs)
        cores = sum(run.seconds * run.cores for run in runs)
        if not heard or not cores:
            return self
        listen = sum(run.listen_seconds for run in runs) / heard
        cpu_predict, gpu_predict = (
            _predict_seconds([run for run in runs if bool(run.gpus) == gpu]) for gpu in (False, True)
        )
        # In runs with a GPU, the cores do not predict.
        busy = sum(run.fetch_seconds + run.listen_seconds + (0 if run.gpus else run.predict_seconds) for run in runs)
        sizes, audio = sum(run.size_bytes for run in runs), sum(run.audio_seconds for run in runs)
        overhead = self.read_overhead
        if sizes and audio:
            share = sum(run.bytes_read for run in runs) / sizes
            overhead = max(1.0, share / min(1.0, heard / audio))
        return dataclasses.replace(
            self,
            listen_seconds=listen or self.listen_seconds,
            predict_seconds=self.predict_seconds if cpu_predict is None else cpu_predict,
            gpu_predict_seconds=self.gpu_predict_seconds if gpu_predict is None else gpu_predict,
            efficiency=min(1.0, busy / cores) if busy else self.efficiency,
            read_overhead=overhead,
        )


def _predict_seconds(runs: Sequence[Throughput]) -> float | None:
    """Return the network's seconds for each second of audio, or None where the runs decoded nothing."""
    heard = sum(run.heard_seconds for run in runs)
    return sum(run.predict_seconds for run in runs) / heard if heard else None


@dataclass(frozen=True, config=STRICT)
class Machine:
    """One of the cluster's nodes, which are all alike.

    Attributes:
        cores: number of cores, each as fast as the one that the rates were measured on.
        gpus: number of GPUs.
        network_bytes_per_second: speed of the network card.
        start_seconds: time from the request for nodes to the first track; all nodes start in parallel.
        price_per_hour: example price; give your own.
    """

    cores: Annotated[int, Field(ge=1)] = 16
    gpus: Annotated[int, Field(ge=0)] = 0
    network_bytes_per_second: Positive = 12.5e9 / 8
    start_seconds: NotNegative = 180.0
    price_per_hour: NotNegative = 0.70


@dataclass(frozen=True, config=STRICT)
class Store:
    """The bucket. The defaults are orders of magnitude that S3 documents for one prefix, and example prices.

    Attributes:
        requests_per_second: limit for all nodes together; 5,500 for each prefix by which the store divides the keys.
        bytes_per_second: bandwidth to all nodes together.
        latency_seconds: time from a request to its first byte.
        connection_bytes_per_second: speed of one request.
        round_trips: number of sequential requests for a track: its headers, then all excerpts in parallel.
        price_per_million_requests: example price; give your own.
    """

    requests_per_second: Positive = 5_500.0
    bytes_per_second: Positive = 100e9 / 8
    latency_seconds: NotNegative = 0.03
    connection_bytes_per_second: Positive = 85e6
    round_trips: Annotated[int, Field(ge=1)] = 2
    price_per_million_requests: NotNegative = 0.40


@dataclass(frozen=True, config=STRICT)
class Forecast:
    """A night on a given number of nodes.

    Attributes:
        nodes: number of nodes.
        hours: time from the request for nodes to the commit.
        cost: price of nodes and requests, in the currency of the prices.
        limit: the busiest resource of `utilisation`, or `start and commit` where these take longer than the stream.
        tracks_per_second: rate of the stream.
        start_hours: time until the first track, the plan included.
        stream_hours: time of the stream, the tail included.
        commit_hours: time of the commit.
        utilisation: share of time that each resource is busy while tracks stream.
    """

    nodes: int
    hours: float
    cost: float
    limit: str
    tracks_per_second: float
    start_hours: float
    stream_hours: float
    commit_hours: float
    utilisation: Mapping[str, float]


@dataclass(frozen=True, config=STRICT)
class _Block:
    """Time that a block needs on each resource, in seconds.

    Attributes:
        fetch: wait for storage, without queueing.
        core: time of its core.
        own: time of each resource that every node has, by name.
        shared: time of each resource that the cluster has once, by name.
        tracks: number of tracks in the block.
        requests: number of requests to the bucket.
    """

    fetch: float
    core: float
    own: Mapping[str, float]
    shared: Mapping[str, float]
    tracks: int
    requests: float


def simulate(
    workload: Workload, rates: Rates, machines: Machine, nodes: Sequence[int], store: Store | None = None
) -> list[Forecast]:
    """Forecast hours and cost of a night for each number of nodes.

    Args:
        workload: tracks to label.
        rates: rates of one core.
        machines: one of the nodes.
        nodes: numbers of nodes, each at least 1.
        store: the bucket.

    Raises:
        ConfigError: a number of nodes is below 1, or the nodes have GPUs whose speed was not measured.
    """
    if any(count < 1 for count in nodes):
        raise ConfigError(f"a cluster has at least one node, not {min(nodes)}.")
    store = store or Store()
    block = _block(workload, rates, machines, store)
    return [_forecast(workload, rates, machines, store, block, count) for count in nodes]


def _block(workload: Workload, rates: Rates, machine: Machine, store: Store) -> _Block:
    tracks = min(rates.tracks_per_block, workload.tracks)
    heard = min(workload.heard_seconds, workload.duration_seconds)
    track_bytes = workload.size_bytes * min(1.0, heard / workload.duration_seconds * rates.read_overhead)
    requests = 1.0 + (workload.windows if heard < workload.duration_seconds else 0)
    predict, own = rates.predict_seconds, {"network": tracks * track_bytes / machine.network_bytes_per_second}
    if machine.gpus:
        if rates.gpu_predict_seconds is None:
            raise ConfigError("the speed of a GPU was not measured: give gpu_predict_seconds, or nodes without GPUs.")
        predict, own["gpu"] = 0.0, tracks * heard * rates.gpu_predict_seconds / machine.gpus
    batches = -(-tracks // rates.tracks_per_batch)
    each_batch = store.round_trips * store.latency_seconds + track_bytes / store.connection_bytes_per_second
    return _Block(
        fetch=batches * each_batch,
        core=tracks * heard * (rates.listen_seconds + predict) / rates.efficiency,
        own=own,
        shared={
            "bucket requests": tracks * requests / store.requests_per_second,
            "bucket bandwidth": tracks * track_bytes / store.bytes_per_second,
            "driver": rates.driver_seconds_per_block,
        },
        tracks=tracks,
        requests=tracks * requests,
    )


def _forecast(workload: Workload, rates: Rates, machine: Machine, store: Store, block: _Block, nodes: int) -> Forecast:
    blocks = -(-workload.tracks // block.tracks) * (1.0 + rates.redone_share)
    # Cores beyond the number of blocks are idle.
    busy = max(1, min(nodes * machine.cores, int(blocks)))
    per_second = throughput(block.fetch + block.core, block.own, block.shared, nodes, busy)
    alone = block.fetch + block.core + sum(block.own.values()) + sum(block.shared.values())
    stream = blocks / per_second + (rates.straggler_factor - 1.0) * alone
    start = machine.start_seconds + rates.plan_seconds_per_million * workload.tracks / 1e6
    commit = rates.commit_seconds_per_million * max(workload.tracks, workload.known_rows) / 1e6
    seconds = start + stream + commit
    utilisation = {"cores": per_second * block.core / (nodes * machine.cores)}
    utilisation |= {name: per_second * demand / nodes for name, demand in block.own.items()}
    utilisation |= {name: per_second * demand for name, demand in block.shared.items()}
    utilisation["waiting for storage"] = per_second * block.fetch / (nodes * machine.cores)
    limit = max(utilisation, key=lambda name: utilisation[name])
    if start + commit > stream:
        limit = "start and commit"
    node_price = nodes * machine.price_per_hour * seconds / 3600
    requests_price = blocks * block.requests / 1e6 * store.price_per_million_requests
    return Forecast(
        nodes=nodes,
        hours=seconds / 3600,
        cost=node_price + requests_price,
        limit=limit,
        tracks_per_second=per_second * block.tracks,
        start_hours=start / 3600,
        stream_hours=stream / 3600,
        commit_hours=commit / 3600,
        utilisation=utilisation,
    )


def throughput(
    delay: float, own: Mapping[str, float], shared: Mapping[str, float], nodes: int, population: int
) -> float:
    """Return the blocks per second of a closed network, by exact mean value analysis.

    Args:
        delay: seconds that a block spends without meeting other blocks.
        own: seconds of each resource that every node has; a block uses that of its node.
        shared: seconds of each resource that the cluster has once.
        nodes: number of nodes.
        population: number of blocks in the network.
    """
    # Each node gets its share of the blocks. All nodes are alike, so one queue represents them all.
    demands = [(demand, nodes) for demand in own.values()] + [(demand, 1) for demand in shared.values()]
    queues = [0.0] * len(demands)
    rate = 0.0
    for blocks in range(1, population + 1):
        times = [demand * (1.0 + queue) for (demand, _), queue in zip(demands, queues, strict=True)]
        rate = blocks / (delay + sum(times))
        queues = [rate * time / servers for time, (_, servers) in zip(times, demands, strict=True)]
    return rate
