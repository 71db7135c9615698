"""`mgc cluster --nodes 3`: a Ray cluster of several nodes on this machine, to try things on."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from cluster.session import local_cluster
from cluster.session.local_cluster import LocalCluster
from mgc.errors import ResourceError
from pipelines.command.job import ALARMED, Summary, main, say

_ENDING_SECONDS: Final = 60.0
"""For a command that is interrupted to end by itself."""

_NAMED: Final = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")
"""What a shell must know to use the cluster."""


def build(nodes: int, cpus: int, dashboard: bool, words: Sequence[str] = ()) -> Summary:
    """Start a cluster, keep it until Ctrl-C or until a command has ended, and end it.

    Args:
        nodes: beside the head.
        cpus: logical ones, of each node.
        dashboard: with Ray's dashboard, which takes submitted jobs.
        words: a command, run with the cluster in its environment.

    Raises:
        ResourceError: a node does not start, or dies, or the command fails.
    """
    say(f"starting a head and {nodes} nodes of {cpus} logical CPUs (about 15 s)")
    counts = {"nodes": nodes, "cpus": nodes * cpus}
    with (
        tempfile.TemporaryDirectory(prefix="mgc-cluster-") as folder,
        local_cluster.running(Path(folder), os.environ, nodes, cpus, dashboard) as cluster,
    ):
        if words:
            return Summary(counts=counts, alarms=_run(words, cluster.environment))
        say(f"the cluster is up; logs in {folder}. In another shell:\n")
        click.echo("export " + " ".join(f"{name}={cluster.environment[name]}" for name in _NAMED))
        if cluster.jobs_url:
            say(f"\nthen `mgc …` runs on it, and so does `ray job submit --address {cluster.jobs_url} …`.")
        try:
            say("Ctrl-C ends it.")
            _watch(cluster)
        except KeyboardInterrupt:
            say("\nending the cluster")
    return Summary(counts=counts)


def _watch(cluster: LocalCluster) -> None:
    while all(node.alive() for node in (cluster.head, *cluster.nodes)):
        time.sleep(0.5)
    raise ResourceError("a node of the cluster has died; the others were ended. Start it again.")


def _run(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Run a command to its end; returns an alarm where it raised alarms."""
    try:
        # A process group of its own: Ctrl-C comes to it from here, once.
        process = subprocess.Popen(list(words), env=dict(environment), process_group=0)
    except OSError as error:
        raise ResourceError(f"{words[0]!r} cannot be run: {error.strerror}.") from None
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if code == ALARMED:
        return [f"{words[0]} raised alarms, see above"]
    if code:
        raise ResourceError(f"{words[0]} ended with exit code {code}, see above; the cluster was ended.")
    return []


@click.command("cluster", context_settings={"ignore_unknown_options": True})
@click.option("--nodes", type=click.IntRange(1, 16), default=2, show_default=True, help="Beside the head.")
@click.option("--cpus", type=click.IntRange(1), default=2, show_default=True, help="Logical CPUs of each node.")
@click.option("--dashboard/--no-dashboard", default=True, show_default=True, help="Ray's, for submitted jobs.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
def command(nodes: int, cpus: int, dashboard: bool, words: tuple[str, ...]) -> Summary:
    """Start a Ray cluster of several nodes on this machine: to try a cluster, or to test on one.

    Each node has an object store and a loopback address of its own. With a command after --, the cluster ends with it.
    """
    return build(nodes, cpus, dashboard, words)


if __name__ == "__main__":
    main(command)
