"""The metrics of the connected Ray's one node, as Prometheus scrapes them."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray


def scrape() -> dict[str, str]:
    """The lines of the node's metrics port, by series."""
    [node] = [node for node in ray.nodes() if node["Alive"]]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return {line.rsplit(" ", 1)[0]: line for line in answer.read().decode().splitlines()}


@contextmanager
def scraping() -> Iterator[dict[str, str]]:
    """Scrape every second, and keep the last line of each series.

    A series ends soon after its process, so who asks at the end finds none.
    """
    scraped: dict[str, str] = {}
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(1.0):
            with suppress(OSError):
                scraped.update(scrape())

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield scraped
        # The last report of a process comes up to two seconds after its end.
        time.sleep(3.0)
    finally:
        ended.set()
        thread.join()
