"""Begin work for a driver, unless it runs other software. Ray imports this file in the process of each task."""

from __future__ import annotations

import functools

import ray.util

from cluster.session.lifetime import end_with_node
from mgc.errors import ResourceError
from mgc.software import Software


@functools.cache
def difference_from(driver: Software) -> str | None:
    """Return in one line how this process's software differs from the driver's; None if it is the same."""
    here = Software.here()
    found = here.difference(driver)
    if found is None:
        return None
    name, mine, theirs = found
    fact = "" if name in ("mgc", "code") else f", which differ in {name}: {mine} on the node, {theirs} on the driver"
    return (
        f"node {ray.util.get_node_ip_address()} runs {here}, the driver {driver}{fact}; nothing that the node computed "
        "was kept. Give all nodes the driver's image or checkout, start Ray there again, and run the job again. "
        "Do not edit the code while a job runs."
    )


def begin_work(driver: Software) -> None:
    """Check that this process runs the driver's software, and let it end with its node.

    Every actor and task that computes for a run calls this first.

    Args:
        driver: software of the driver, which travels with the request.

    Raises:
        ResourceError: it does not; the message names both versions.
    """
    line = difference_from(driver)
    if line is not None:
        raise ResourceError(line)
    end_with_node()
