"""Keep a Ray cluster of several nodes on this machine, until Ctrl-C or until a command has ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from pydantic import JsonValue

from cluster.session import local_cluster
from cluster.session.interrupts import hold_back_signals
from cluster.session.local_cluster import LocalCluster, LocalClusterSpec
from mgc.errors import ConfigError, ResourceError
from mgc.units import format_count
from pipelines.command.job import ALARMED, REFUSED, Summary, say

_ENDING_SECONDS: Final = 60.0
"""Time for an interrupted command to end by itself."""

_EXPORTED: Final = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")
"""Environment variables that a shell needs to use the cluster."""


@dataclass(frozen=True)
class LocalClusterRequest:
    """The cluster to start.

    Attributes:
        nodes: number of nodes besides the head.
        cpus: logical CPUs of each node.
        dashboard: whether to start Ray's dashboard, which accepts submitted jobs.
        words: a command to run with the cluster in its environment; empty to wait for Ctrl-C.
    """

    nodes: int = 2
    cpus: int = 2
    dashboard: bool = True
    words: Sequence[str] = ()


def keep_cluster(request: LocalClusterRequest) -> Summary:
    """Start a cluster, keep it until Ctrl-C or until the command has ended, and stop it.

    Raises:
        ConfigError: there is no such command.
        ResourceError: a node does not start or dies, or the command fails.
    """
    # A misspelled command is noticed before anything starts.
    if request.words and shutil.which(request.words[0]) is None:
        raise ConfigError(
            f"cannot run {request.words[0]!r}: there is no such command; check its name, or give its path."
        )
    say(
        f"starting a head and {format_count(request.nodes, 'node')} of {format_count(request.cpus, 'logical CPU')} "
        "(about 15 s)"
    )
    counts: dict[str, JsonValue] = {"nodes": request.nodes, "cpus": request.nodes * request.cpus}
    spec = LocalClusterSpec(os.environ, request.nodes, request.cpus, request.dashboard)
    with (
        tempfile.TemporaryDirectory(prefix="mgc-cluster-") as folder,
        local_cluster.running(spec, Path(folder)) as cluster,
    ):
        if request.words:
            return _run(request.words, cluster.environment, counts)
        try:
            say(f"the cluster is up; its logs are in {folder}. In another shell:\n")
            click.echo("export " + " ".join(f"{name}={cluster.environment[name]}" for name in _EXPORTED))
            if cluster.jobs_url:
                say(f"\nThen `mgc …` runs on it, and so does `ray job submit --address {cluster.jobs_url} …`.")
            say("Ctrl-C ends it.")
            _watch(cluster)
        except KeyboardInterrupt:
            say("\nstopping the cluster")
    return Summary(counts=counts)


def _watch(cluster: LocalCluster) -> None:
    while all(node.alive() for node in (cluster.head, *cluster.nodes)):
        time.sleep(0.5)
    raise ResourceError("a node of the cluster has died; the others were stopped. Start the cluster again.")


def _run(words: Sequence[str], environment: Mapping[str, str], counts: Mapping[str, JsonValue]) -> Summary:
    """Run a command to its end. The summary has an alarm or a refusal if the command ended with one."""
    process = None
    try:
        with hold_back_signals():
            # In its own process group, the command gets Ctrl-C only once, from here.
            process = subprocess.Popen(list(words), env=dict(environment), process_group=0)
            keeper = local_cluster.keep(process)
        code = process.wait()
        local_cluster.release(keeper)
    except OSError as error:
        raise ResourceError(f"cannot run {words[0]!r}: {error.strerror}; check its name and its permissions.") from None
    except KeyboardInterrupt:
        if process is not None:
            _end(process)
            local_cluster.release(keeper)
        raise
    if code == ALARMED:
        return Summary(counts=counts, alarms=[f"{words[0]} raised alarms, see above"])
    if code == REFUSED:
        return Summary(counts=counts, refused=[f"a guard stopped {words[0]}, see above"])
    if code:
        raise ResourceError(f"{words[0]} ended with exit code {code}, see above; the cluster was stopped.")
    return Summary(counts=counts)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
