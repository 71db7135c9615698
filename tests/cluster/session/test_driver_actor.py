"""Actors beside the driver, through their handles as tasks hold them."""

from __future__ import annotations

import os
import time

import pytest
import ray
from ray.exceptions import RayError

from cluster.session.counts import ProgressHandle
from cluster.session.driver_actor import DriverActor
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


class Place:
    """Says where it runs."""

    def __init__(self, name: str) -> None:
        self._name = name

    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def variable(self) -> str:
        return os.environ[self._name]


@ray.remote(num_cpus=0.1)
def _count(progress: ProgressHandle, epoch: EpochCounter) -> int:
    progress.add({"tracks": 2}, {"loss": 0.5}, {"bytes_read": 3}, began=7.0)
    epoch.begin(4)
    # A task's calls arrive in order, so this answer comes after the count.
    return progress.read()[0]["tracks"]


def test_an_actor_runs_on_the_driver_s_node_with_its_environment(ray_session: Profile) -> None:
    actor = DriverActor.start(Place, "MGC_PLACE", environment={"MGC_PLACE": "here"})
    assert actor.ask(Place.node) == ray.get_runtime_context().get_node_id()
    assert actor.ask_within(30.0, Place.variable) == "here"
    bare = DriverActor.start(Place, "MGC_PLACE")
    with pytest.raises(RayError):
        bare.ask(Place.variable)


def test_handles_travel_to_tasks_and_all_copies_count_together(ray_session: Profile) -> None:
    progress, epoch = ProgressHandle.start(), EpochCounter.start()
    progress.add({"tracks": 1}, sums={"bytes_read": 1}, began=9.0)
    assert epoch.current() == 0
    assert progress.read()[0] == {"tracks": 1}
    assert ray.get(_count.remote(progress, epoch)) == 3
    assert epoch.current() == 4
    assert progress.read() == ({"tracks": 3}, {"loss": 0.5}, {})
    assert progress.sums() == ({"tracks": 3, "bytes_read": 4}, 7.0)
    progress.set_counts({"tracks": 10})
    assert progress.read() == ({"tracks": 10}, {"loss": 0.5}, {"tracks": 7})


def test_the_head_keeps_no_record_of_calls(ray_session: Profile) -> None:
    """A long night makes a hundred thousand of them."""
    progress, epoch = ProgressHandle.start(), EpochCounter.start()
    assert ray.get(_count.remote(progress, epoch)) == 2
    deadline = time.monotonic() + 30
    names = set[str]()
    # A worker tells the head of its tasks every second.
    while "task::_count" not in names and time.monotonic() < deadline:
        time.sleep(0.5)
        names = {event["cat"] for event in ray.timeline()}
    time.sleep(2.0)
    names |= {event["cat"] for event in ray.timeline()}
    assert "task::_count" in names
    assert [name for name in names if "Counts" in name or "Epoch" in name] == []
