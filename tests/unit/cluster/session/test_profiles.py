"""Profiles: what fits, what is refused at once, and that every part can be placed on some node."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.session.profiles import PROFILES, NodeResources, Profile, Resources, choose, growth, laptop
from mgc.errors import ConfigError, ResourceError

CPU_NODE, GPU_NODE = NodeResources(4, 0), NodeResources(8, 1)


def cluster(*nodes: NodeResources) -> Resources:
    return Resources("the cluster", max(1, int(sum(node.cpus for node in nodes))), nodes)


def machine(gpus: int) -> Resources:
    return Resources("this machine", 8, (NodeResources(8, gpus),))


def refusal(name: str | None, have: Resources, workers: int = 1) -> str:
    with pytest.raises((ConfigError, ResourceError)) as caught:
        choose(name, have, workers)
    return str(caught.value)


def test_more_gpus_than_there_are() -> None:
    line = refusal("gpu-node", machine(0))
    assert re.search(r"\bgpu-node\b.*\b1 GPU.*\b0\b", line)
    assert "\n" not in line
    assert re.search(r"\b3 training workers\b.*\bGPU\b.*\b2\b", refusal(None, cluster(GPU_NODE, GPU_NODE), 3))


def test_more_cpus_than_there_are() -> None:
    assert re.search(r"\b4 CPUs\b.*\b2\b", refusal("gpu-node", cluster(NodeResources(2, 1))))
    assert "without a GPU" in refusal("decoders-and-gpus", cluster(GPU_NODE))


def test_more_workers_than_cpus_and_none() -> None:
    assert re.search(r"\b9 training workers\b.*\b8 CPUs\b", refusal("laptop", machine(4), 9))
    assert "0 training workers" in refusal(None, machine(0), 0)


def test_an_unknown_name_lists_the_known() -> None:
    assert all(name in refusal("cloud", machine(0)) for name in PROFILES)


def test_a_laptop_leaves_its_gpus_alone() -> None:
    assert choose("laptop", machine(1)).gpus == 0
    assert choose(None, machine(1)).gpus == 1
    assert laptop(2).train_workers == 2


def test_decoders_are_counted_where_there_is_no_gpu() -> None:
    profile = choose("decoders-and-gpus", cluster(CPU_NODE, CPU_NODE, GPU_NODE))
    assert (profile.cores, profile.gpus) == (8, 1)
    # Eight decoders fit on the two nodes, and what reads and writes beside them.
    assert profile.cores * profile.decode_cpus <= 8


@given(st.integers(1, 64), st.integers(1, 64))
def test_while_all_decode_and_predict_a_task_that_reads_finds_a_node(machines: int, cores: int) -> None:
    """However the actors lie: what they leave on all nodes is enough for one such task on each."""
    profile = choose(None, cluster(*[NodeResources(cores)] * machines))
    held = profile.cores * profile.decode_cpus + profile.predict_actors * profile.predict_cpus
    left = profile.logical_cpus - held
    # Two predict also where there is one core: then exactly one task fits.
    assert left >= machines * profile.io_cpus * (1 - 1e-9)


nodes = st.builds(NodeResources, st.integers(1, 64).map(float), st.integers(0, 8))


@given(st.lists(nodes, min_size=1, max_size=8), st.sampled_from([None, *PROFILES]), st.integers(1, 4))
def test_each_part_finds_a_node(found: list[NodeResources], name: str | None, workers: int) -> None:
    """A part that no node is large enough for waits for ever."""
    have = cluster(*found)
    try:
        profile = choose(name, have, workers)
    except ResourceError:
        return
    assert isinstance(profile, Profile)
    for cpus in (profile.decode_cpus, profile.predict_cpus, profile.io_cpus):
        assert cpus <= max(node.cpus for node in found)
    if not profile.gpus:
        assert profile.train_cpus * workers <= have.cpus
        assert profile.train_cpus <= max(node.cpus for node in found)
        return
    assert profile.gpus / profile.predict_actors <= 1
    places = sum(min(node.gpus, int(node.cpus // profile.train_cpus)) for node in found if node.gpus)
    assert places >= workers
    assert any(node.gpus and node.cpus >= profile.predict_cpus for node in found)


def test_growth_says_what_an_autoscaler_may_start() -> None:
    assert growth("20x8, 4x8+1") == {NodeResources(8.0): 20, NodeResources(8.0, 1): 4}


@pytest.mark.parametrize("text", ["20", "x8", "20x8;4x8", "0x8", "2x0", "2x8+", "2x8,", "20x8,4x8", "10000x8"])
def test_a_growth_that_says_something_else(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"MGC_NODES is {re.escape(repr(text))}"):
        growth(text)
