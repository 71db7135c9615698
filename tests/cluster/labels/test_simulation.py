"""The model of a large cluster: what must hold of it whatever the numbers. No Ray is started."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.labels.simulation import (
    FMA_FULL,
    TEN_MILLION,
    Forecast,
    Machine,
    Rates,
    Store,
    Workload,
    simulate,
    throughput,
)
from mgc.audio.excerpts import ListeningPlan
from mgc.errors import ConfigError
from mgc.labeling.throughput import Throughput

seconds = st.floats(1e-4, 10.0)
workloads = st.builds(
    Workload,
    name=st.just("w"),
    tracks=st.integers(1, 200_000),
    size_bytes=st.floats(1e4, 1e8),
    duration_seconds=st.floats(5.0, 900.0),
    heard_seconds=st.floats(1.0, 300.0),
    windows=st.integers(1, 10),
)
stores = st.builds(
    Store,
    requests_per_second=st.floats(100.0, 1e6),
    bytes_per_second=st.floats(1e8, 1e11),
    latency_seconds=st.floats(0.0, 0.3),
)
rates = st.builds(
    Rates,
    listen_seconds=st.floats(1e-5, 1e-2),
    predict_seconds=st.floats(0.0, 1e-2),
    efficiency=st.floats(0.1, 1.0),
    driver_seconds_per_block=st.floats(0.0, 0.1),
)


def one(
    workload: Workload, rate: Rates, nodes: int, store: Store | None = None, machine: Machine | None = None
) -> Forecast:
    return simulate(workload, rate, machine or Machine(), [nodes], store)[0]


@settings(max_examples=60)
@given(workloads, rates, stores, st.integers(1, 12), st.integers(1, 12))
def test_more_nodes_are_never_slower_and_never_cheaper_in_node_hours(
    workload: Workload, rate: Rates, store: Store, few: int, more: int
) -> None:
    lower, upper = simulate(workload, rate, Machine(cores=8), [few, few + more], store)
    assert upper.hours <= lower.hours * (1 + 1e-9)
    assert upper.nodes * upper.hours >= lower.nodes * lower.hours * (1 - 1e-9)


@settings(max_examples=60)
@given(workloads, rates, stores, st.integers(1, 20))
def test_nothing_works_more_than_all_the_time(workload: Workload, rate: Rates, store: Store, nodes: int) -> None:
    forecast = one(workload, rate, nodes, store)
    assert all(0.0 <= share <= 1.0 + 1e-9 for share in forecast.utilisation.values()), forecast.utilisation
    assert forecast.hours == pytest.approx(forecast.start_hours + forecast.stream_hours + forecast.commit_hours)


@given(seconds, seconds, seconds, st.integers(1, 50), st.integers(1, 200))
def test_throughput_keeps_the_bounds_of_a_closed_network(
    delay: float, card: float, driver: float, nodes: int, population: int
) -> None:
    rate = throughput(delay, {"card": card}, {"driver": driver}, nodes, population)
    assert rate <= min(1 / driver, nodes / card, population / (delay + card + driver)) * (1 + 1e-9)
    # The pessimistic side: as if each block met all the others everywhere.
    assert rate >= population / (delay + (card + driver) * population) * (1 - 1e-9)


def test_blocks_that_share_nothing_do_not_slow_each_other() -> None:
    assert throughput(2.0, {}, {}, nodes=7, population=21) == pytest.approx(10.5)


def test_one_machine_queue_is_the_textbooks() -> None:
    # Machine repairman with two machines, think time 1, service 1: states 0, 1, 2 at the server weigh 1, 2, 2, so it
    # works 4/5 of the time.
    assert throughput(1.0, {}, {"server": 1.0}, nodes=1, population=2) == pytest.approx(0.8)


def test_a_slow_driver_is_the_limit_of_a_large_cluster() -> None:
    slow = Rates(driver_seconds_per_block=0.5, redone_share=0.0)
    wide = Store(requests_per_second=1e9, bytes_per_second=1e15)
    forecast = one(TEN_MILLION, slow, 200, wide)
    assert forecast.limit == "driver"
    assert forecast.tracks_per_second == pytest.approx(64 / 0.5, rel=1e-3)


def test_the_buckets_requests_are_the_limit_where_its_keys_are_not_divided() -> None:
    forecast = one(TEN_MILLION, Rates(), 200, Store(requests_per_second=5500.0))
    assert forecast.limit == "bucket requests"
    assert forecast.tracks_per_second == pytest.approx(5500 / (1 + FMA_FULL.windows), rel=1e-3)


def test_one_node_of_one_core_takes_as_long_as_its_work() -> None:
    plain = Rates(efficiency=1.0, redone_share=0.0, straggler_factor=1.0, driver_seconds_per_block=0.0)
    quick = Store(
        latency_seconds=0.0, connection_bytes_per_second=1e15, requests_per_second=1e12, bytes_per_second=1e15
    )
    machine = Machine(cores=1, start_seconds=0.0, network_bytes_per_second=1e15, price_per_hour=2.0)
    workload = dataclasses.replace(FMA_FULL, tracks=64_000)
    forecast = one(workload, plain, 1, dataclasses.replace(quick, price_per_million_requests=0.0), machine)
    work_seconds = 64_000 * 24.0 * (plain.listen_seconds + plain.predict_seconds)
    assert forecast.stream_hours * 3600 == pytest.approx(work_seconds, rel=1e-6)
    assert forecast.cost == pytest.approx(2.0 * forecast.hours)
    assert forecast.limit == "cores"


def test_a_handful_of_tracks_waits_for_the_nodes() -> None:
    assert one(dataclasses.replace(FMA_FULL, tracks=100), Rates(), 50).limit == "start and commit"


def test_hearing_whole_tracks_takes_longer_and_reads_every_byte() -> None:
    whole = FMA_FULL.heard_by(ListeningPlan(window_seconds=30.0, where="all"))
    assert whole.heard_seconds == FMA_FULL.duration_seconds
    wide = Store(requests_per_second=1e9)
    hours, less = one(whole, Rates(), 4, wide).stream_hours, one(FMA_FULL, Rates(), 4, wide).stream_hours
    assert 5 < hours / less < whole.heard_seconds / FMA_FULL.heard_seconds
    three = FMA_FULL.heard_by(ListeningPlan(window_seconds=30.0, windows=3))
    assert (three.heard_seconds, three.windows) == (90.0, 3)


def test_gpus_take_the_network_from_the_cores() -> None:
    machine = Machine(gpus=1)
    with pytest.raises(ConfigError, match="gpu_predict_seconds"):
        simulate(FMA_FULL, Rates(), machine, [1])
    with_gpu = one(FMA_FULL, Rates(gpu_predict_seconds=1e-6), 1, machine=machine)
    assert with_gpu.hours < one(FMA_FULL, Rates(), 1).hours
    assert one(FMA_FULL, Rates(gpu_predict_seconds=1e-2), 1, machine=machine).limit == "gpu"


def test_no_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="node"):
        simulate(FMA_FULL, Rates(), Machine(), [4, 0])


def test_rates_of_past_runs_take_the_place_of_the_benchmarks() -> None:
    run = Throughput(
        tracks=100, seconds=20.0, cores=2, size_bytes=1000, bytes_read=500, audio_seconds=6000.0, heard_seconds=2400.0,
        fetch_seconds=1.0, listen_seconds=24.0, predict_seconds=6.0,
    )  # fmt: skip
    found = Rates().calibrated([run, run])
    assert found.listen_seconds == pytest.approx(0.01)
    assert found.predict_seconds == pytest.approx(0.0025)
    assert found.efficiency == pytest.approx(31 / 40)
    assert found.read_overhead == pytest.approx(1.25)
    assert found.gpu_predict_seconds is None
    assert Rates().calibrated([]) == Rates()
    assert Rates().calibrated([dataclasses.replace(run, gpus=1)]).gpu_predict_seconds == pytest.approx(0.0025)
