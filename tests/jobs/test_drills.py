"""A worker, a node or the driver is killed, early, in the middle or late: the table is that of an undisturbed run.

`make test` kills a node, with its workers, in the middle. `make drills` runs all; both print what was done twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.labels.table import LabelsTable
from cluster.session import local_cluster
from cluster.session.local_cluster import LocalCluster, LocalClusterSpec
from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from mgc import schema
from pipelines.nights.label import label
from pipelines.nights.requests import LabelRequest, NightRequest
from tests.support import drills
from tests.support.drills import Drill, Music
from tests.support.fault_proxy import Proxy
from tests.support.object_store import ObjectStore

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

FEW, MANY = 96, 320
"""Tracks: for the drills of `make test`, and for all, among which some need rows staged in the middle of a run."""

ALWAYS = (("node", "middle"),)
OTHERS = [(kind, moment) for kind in drills.KINDS for moment in drills.MOMENTS if (kind, moment) not in ALWAYS]


@pytest.fixture(scope="module")
def nodes(s3_environment: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster of a head and two nodes, whose workers know the object store."""
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    with local_cluster.running(LocalClusterSpec(environment, cpus=1), tmp_path_factory.mktemp("nodes")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def music(request: pytest.FixtureRequest, s3_environment: ObjectStore) -> Music:
    every = any(item.get_closest_marker("drill") for item in request.session.items)
    return drills.make_music(s3_environment, MANY if every else FEW)


@pytest.fixture(scope="module")
def undisturbed(ray_session: Profile, music: Music) -> list[dict[str, Any]]:
    """The rows that a run leaves which nothing disturbs: on the session's head, whose workers are there already."""
    night = NightRequest(Uri.parse(music.catalog), Uri.parse(music.labels("undisturbed")))
    summary = label(LabelRequest(night, ray_session))
    assert summary.status == "done"
    rows = drills.rows_of(music.labels("undisturbed"))
    assert [row["track_id"] for row in rows] == [f"{number:04}.mp3" for number in range(music.tracks)]
    statuses = [row["status"] for row in rows]
    assert 0 < statuses.count(schema.QUARANTINED) <= drills.DAMAGED
    assert LabelsTable(Uri.parse(music.labels("undisturbed"))).version == 0
    return rows


@pytest.fixture(scope="module")
def log(request: pytest.FixtureRequest) -> Iterator[list[Drill]]:
    """The drills so far; printed as a table at the end."""
    done: list[Drill] = []
    yield done
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", Drill.HEAD, *(each.line() for each in done), sep="\n")


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        *(pytest.param(kind, moment, marks=pytest.mark.kill) for kind, moment in ALWAYS),
        *(pytest.param(kind, moment, marks=pytest.mark.drill) for kind, moment in OTHERS),
    ],
)
def test_the_table_is_that_of_an_undisturbed_run(
    kind: str,
    moment: str,
    nodes: LocalCluster,
    music: Music,
    store_proxy: Proxy,
    undisturbed: list[dict[str, Any]],
    log: list[Drill],
    tmp_path: Path,
) -> None:
    done = drills.drill(kind, moment, nodes, music, store_proxy, undisturbed, tmp_path)
    log.append(done)
    # A worker or a node is made good for by Ray; a driver by submitting the job again.
    assert done.submissions == (2 if kind == "driver" else 1)
    # What was staged when the driver died is not read again.
    if kind == "driver":
        assert done.twice <= music.tracks - done.staged
