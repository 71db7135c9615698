"""`mgc cluster --nodes 3`: a Ray cluster of several nodes on this machine, to try things on."""

from __future__ import annotations

import click

from pipelines.command.job import Summary, main


@click.command("cluster", context_settings={"allow_interspersed_args": False})
@click.option("--nodes", type=click.IntRange(1, 16), default=2, show_default=True, help="Nodes besides the head.")
@click.option("--cpus", type=click.IntRange(1), default=2, show_default=True, help="Logical CPUs of each node.")
@click.option(
    "--dashboard/--no-dashboard", default=True, show_default=True, help="Start Ray's dashboard, for submitted jobs."
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND…]")
def command(nodes: int, cpus: int, dashboard: bool, words: tuple[str, ...]) -> Summary:
    """Start a Ray cluster of several nodes on this machine, to try things on.

    Each node has its own object store and its own loopback address. With a command after --, the cluster ends when the
    command does.
    """
    from pipelines.machines.local import LocalClusterRequest, keep_cluster

    return keep_cluster(LocalClusterRequest(nodes, cpus, dashboard, words))


if __name__ == "__main__":
    main(command)
