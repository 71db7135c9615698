"""A stranger speaks to every port of a local Ray, from another address of the machine, and gets numbers at most."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import grpc
import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.drill, pytest.mark.filterwarnings("default")]

_METHODS: Final = (
    "JobInfoGcsService/GetAllJobInfo",
    "InternalKVGcsService/InternalKVGet",
    "NodeManagerService/RequestWorkerLease",
    "ObjectManagerService/Pull",
    "CoreWorkerService/PushTask",
    "CoreWorkerService/Exit",
    "ReporterService/GetTraceback",
)
"""At least one for each server that Ray has; the others answer that they do not know it."""

_RAY: Final = """
import sys, time, ray
from cluster.session.connect import connect
with connect(dashboard=True):
    ray.get(ray.remote(lambda: 1).remote())
    # The agents start last.
    time.sleep(20)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(shutil.which("ss") is None, reason="ss (iproute2) is not installed")
def test_no_port_of_a_local_ray_obeys_a_stranger() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(
        [sys.executable, "-c", _RAY], cwd=Path(__file__).parents[3], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as driver:  # fmt: skip
        assert driver.stdout is not None
        assert "ready" in driver.stdout.readline()
        said = {port: ask(host, port) for host, port in listening(driver.pid)}
        driver.communicate(timeout=60)
    refusing = [port for port, answers in said.items() if answers & {"401", "UNAUTHENTICATED"}]
    assert len(refusing) >= 6, said
    # The others show metrics, and do nothing.
    assert {frozenset(said[port]) for port in said.keys() - set(refusing)} <= {frozenset({"metrics"})}, said


def ask(host: str, port: int) -> set[str]:
    """What a server says to a caller without a token."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/api/jobs/")
        answer = connection.getresponse()
        return {"metrics" if answer.read(6) == b"# HELP" else str(answer.status)}
    except http.client.BadStatusLine:
        # It speaks gRPC.
        pass
    finally:
        connection.close()
    answers = set()
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for method in _METHODS:
            try:
                channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=5)
                answers.add(f"{method} answered")
            except grpc.RpcError as error:
                answers.add(error.code().name)
    return answers - {"UNIMPLEMENTED"}


def listening(root: int) -> list[tuple[str, int]]:
    """Addresses at which a process and those that it started listen, each reached from outside where it can be."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = {root}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    found = set()
    done = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        if any(f"pid={process}," in line for process in family):
            host, _, port = line.split()[3].rpartition(":")
            found.add((host.strip("[]").removeprefix("::ffff:"), int(port)))
    # `*` and 0.0.0.0 are every address: 127.0.0.2 is none of those that Ray was told.
    return [("127.0.0.2" if host in ("*", "::", "0.0.0.0") else host, port) for host, port in sorted(found)]
