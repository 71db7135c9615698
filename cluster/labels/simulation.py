"""A night on a large cluster that is not here: nodes against hours and cost, by rates measured on one machine.

The model is a closed queueing network, solved by mean value analysis (Reiser and Lavenberg, Journal of the ACM 27,
1980; exact for exponential service, so a little pessimistic for our steadier blocks). What goes round in it is blocks
of tracks: each core of each node has one at a time, and takes the next when it is staged. On its way a block

- waits for storage, as long as latency and the speed of a connection make it: a batch of tracks is fetched at once, and
  the core does nothing else meanwhile;
- takes its core for decoding, features and, where nodes have no GPU, the network's answer, divided by the efficiency
  that the label job was measured to have;
- queues for its node's network card, and its node's GPUs, where there are any: with the other blocks of the node;
- queues for the bucket's requests, the bucket's bytes and the driver: with all blocks of the cluster. The driver deals
  with one event after the other, whatever the number of nodes.

Before that stand the start of the nodes and the plan, behind it the tail (the slowest of the last blocks, while other
cores have no more work) and the commit, which one machine does alone. A share of the work is done twice, for nodes that
are lost. What costs is every node from its start to the commit, and the requests.

Left out: spilling, autoscaling, cores that slow each other by memory (rates must be measured with all cores at work),
actors that start later on many nodes, throttled requests that come again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from cluster.labels.rates import Measured
from mgc.audio.excerpts import ListeningPlan
from mgc.configuration import STRICT
from mgc.errors import ConfigError
from mgc.units import GIB

Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]


@dataclass(frozen=True, config=STRICT)
class Workload:
    """What is to be labelled.

    Attributes:
        name: for the table.
        tracks: how many.
        size_bytes: of a track, on average.
        duration_seconds: of a track, on average.
        heard_seconds: of a track, on average, by the listening plan.
        windows: stretches in which they are heard, each a request.
        known_rows: of the labels table before; 0 for a first night.
    """

    name: str
    tracks: Annotated[int, Field(ge=1)]
    size_bytes: Positive
    duration_seconds: Positive
    heard_seconds: Positive = 24.0
    windows: Annotated[int, Field(ge=1)] = 8
    known_rows: Annotated[int, Field(ge=0)] = 0

    def heard_by(self, plan: ListeningPlan) -> Workload:
        """The same tracks heard by a plan, as if each were of the average length."""
        excerpts = plan.excerpts(self.duration_seconds)
        heard_seconds = sum(each.seconds for each in excerpts)
        return dataclasses.replace(self, heard_seconds=heard_seconds, windows=len(excerpts))


FMA_FULL: Final = Workload("FMA-full", tracks=106_574, size_bytes=879 * GIB / 106_574, duration_seconds=270.0)
"""879 GiB of untrimmed tracks (Defferrard et al., ISMIR 2017), heard in eight excerpts of 3 s."""

TEN_MILLION: Final = dataclasses.replace(FMA_FULL, name="ten million tracks", tracks=10_000_000)
"""Tracks as those of FMA-full, ten million of them."""


@dataclass(frozen=True, config=STRICT)
class Rates:
    """What a core was measured to do. The defaults are those of BENCHMARKS.md, and `make bench` measures them.

    Attributes:
        listen_seconds: of a core, for decoding and features of a second that is heard (`excerpt_speedup`: 24.9 ms for
            eight excerpts of 3 s).
        predict_seconds: of a core, for the network's answer to a second that is heard: 10 ms for the ten clips of 30 s.
        gpu_predict_seconds: of a GPU, for the same; None where it was not measured.
        efficiency: share of a core's time that the stages get of Ray (`label_efficiency`).
        read_overhead: bytes read over the heard share of the file's (`excerpt_bytes_share`: 0.117 for 0.100).
        plan_seconds_per_million: for each million rows of the catalog (`plan_10m_seconds`).
        commit_seconds_per_million: for each million rows, those copied included (`commit_10m_seconds`).
        driver_seconds_per_block: of the driver, for all of a block's tasks: five, at 2 ms a call.
        tracks_per_block: as the label job cuts a long catalog.
        tracks_per_batch: fetched together.
        redone_share: of the work, done a second time.
        straggler_factor: the slowest of the last blocks over an average one.
    """

    listen_seconds: Positive = 0.0249 / 24
    predict_seconds: NotNegative = 0.001 / 3
    gpu_predict_seconds: NotNegative | None = None
    efficiency: Share = 0.85
    read_overhead: Annotated[float, Field(ge=1.0)] = 1.17
    plan_seconds_per_million: NotNegative = 1.1
    commit_seconds_per_million: NotNegative = 1.5
    driver_seconds_per_block: NotNegative = 0.010
    tracks_per_block: Annotated[int, Field(ge=1)] = 64
    tracks_per_batch: Annotated[int, Field(ge=1)] = 8
    redone_share: NotNegative = 0.01
    straggler_factor: Annotated[float, Field(ge=1.0)] = 3.0

    def calibrated(self, runs: Sequence[Measured]) -> Rates:
        """With what past runs of the label job took in place of the benchmarks; unchanged where they say nothing.

        Args:
            runs: of the same model, on cores like those of the cluster.
        """
        heard = sum(run.heard_seconds for run in runs)
        cores = sum(run.seconds * run.cores for run in runs)
        if not heard or not cores:
            return self
        listen = sum(run.listen_seconds for run in runs) / heard
        predict = {gpu: [run for run in runs if bool(run.gpus) == gpu] for gpu in (False, True)}
        changes: dict[str, Any] = {"listen_seconds": listen} if listen else {}
        for gpu, name in ((False, "predict_seconds"), (True, "gpu_predict_seconds")):
            there = sum(run.heard_seconds for run in predict[gpu])
            if there:
                changes[name] = sum(run.predict_seconds for run in predict[gpu]) / there
        # Of runs with a GPU too: what waits there is not the core's.
        busy = sum(run.fetch_seconds + run.listen_seconds + (0 if run.gpus else run.predict_seconds) for run in runs)
        if busy:
            changes["efficiency"] = min(1.0, busy / cores)
        sizes, audio = sum(run.size_bytes for run in runs), sum(run.audio_seconds for run in runs)
        if sizes and audio:
            share = sum(run.bytes_read for run in runs) / sizes
            changes["read_overhead"] = max(1.0, share / min(1.0, heard / audio))
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, config=STRICT)
class Machine:
    """One of the cluster's nodes, all alike.

    Attributes:
        cores: each as fast as the one that the rates were measured on.
        gpus: for the network.
        network_bytes_per_second: of its card.
        start_seconds: from the order to the first track, for all nodes side by side.
        price_per_hour: an example price; give your own.
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
        requests_per_second: of all nodes together: 5,500 for each prefix by which the store has divided the keys.
        bytes_per_second: to all nodes together.
        latency_seconds: from a request to its first byte.
        connection_bytes_per_second: of one request.
        round_trips: one after the other for a track: first its headers, then the excerpts, side by side.
        price_per_million_requests: an example price; give your own.
    """

    requests_per_second: Positive = 5_500.0
    bytes_per_second: Positive = 100e9 / 8
    latency_seconds: NotNegative = 0.03
    connection_bytes_per_second: Positive = 85e6
    round_trips: Annotated[int, Field(ge=1)] = 2
    price_per_million_requests: NotNegative = 0.40


@dataclass(frozen=True, config=STRICT)
class Forecast:
    """A night on so many nodes.

    Attributes:
        nodes: how many.
        hours: from the order of the nodes to the commit.
        cost: of nodes and requests, in the currency of the prices.
        limit: what is busiest, or what takes longest: see `utilisation`; or `start and commit`.
        tracks_per_second: while it streams.
        start_hours: until the first track, the plan included.
        stream_hours: of that, with the tail.
        commit_hours: at the end.
        utilisation: share of time that each resource works while tracks stream.
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
    """What a block asks of each resource, in seconds of it.

    Attributes:
        fetch: of waiting for storage, if there were no queue.
        core: of its core.
        own: of resources of which each node has its own, by name.
        shared: of those of which there is one.
        tracks: in it.
        requests: to the bucket.
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
    """Hours and cost of a night for each number of nodes.

    Args:
        workload: what is to be labelled.
        rates: of one core.
        machines: the nodes.
        nodes: numbers of them, each at least 1.
        store: the bucket.

    Raises:
        ConfigError: no node, or GPUs whose speed was not measured.
    """
    if any(count < 1 for count in nodes):
        raise ConfigError(f"a cluster has one node at least, not {min(nodes)}.")
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
            raise ConfigError("how long a GPU takes was not measured: give gpu_predict_seconds, or nodes without GPUs.")
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
    # More cores than blocks have nothing to do.
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
    """Blocks a second that go round in a closed network, by exact mean value analysis.

    Args:
        delay: seconds a block spends where it meets no other.
        own: seconds of each resource of which every node has one; a block needs that of its own node.
        shared: seconds of each resource of which there is one.
        nodes: how many.
        population: blocks in the network.
    """
    # A node sees its share of the blocks. As all nodes are alike, one queue stands for that of each.
    demands = [(demand, nodes) for demand in own.values()] + [(demand, 1) for demand in shared.values()]
    queues = [0.0] * len(demands)
    rate = 0.0
    for blocks in range(1, population + 1):
        times = [demand * (1.0 + queue) for (demand, _), queue in zip(demands, queues, strict=True)]
        rate = blocks / (delay + sum(times))
        queues = [rate * time / servers for time, (_, servers) in zip(times, demands, strict=True)]
    return rate
