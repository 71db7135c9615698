"""The graph with which CPUs compute a bundle's network, kept in the user's cache."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import torch

from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.bundle_names import cache_folder
from mgc.errors import BundleError, ConfigError, StorageError
from mgc.graphs.export import CLOSE, EXPORTER, compare_graph, export_graph, has_graph
from mgc.models.graph import Graph
from mgc.software import Software
from pipelines.command.job import say


def start_graph(bundle: Bundle) -> None:
    """Begin to read the graph of a bundle in a thread, while the job waits for Ray. `graph_for` takes it from there."""
    if _has_graph(bundle):
        _reading(bundle)


def graph_for(bundle: Bundle, profile: Profile) -> bytes | None:
    """Return the graph with which the CPUs of a job compute a bundle's network; None if PyTorch does.

    It comes from the user's cache if it is there, and is kept there otherwise.
    """
    return None if profile.gpus or not _has_graph(bundle) else _read_or_write(bundle)


def _has_graph(bundle: Bundle) -> bool:
    return "onnxruntime" in dict(Software.here().versions) and has_graph(bundle)


@lru_cache(maxsize=1)
def _read_or_write(bundle: Bundle) -> bytes | None:
    # PyTorch's exporter has state of its own and changes the process's filters of warnings, so it runs in no thread.
    data = _reading(bundle).result()
    if data is not None:
        return data
    try:
        data = export_graph(bundle)
    except BundleError as error:
        say(f"PyTorch computes the network, which takes longer: {error}")
        return None
    place = _place(bundle)
    if place is not None:
        # Without a cache, the next run writes it again.
        with contextlib.suppress(StorageError):
            files.write_bytes(place, data)
    return data


@lru_cache(maxsize=1)
def _reading(bundle: Bundle) -> Future[bytes | None]:
    executor = ThreadPoolExecutor(1, "graph")
    future = executor.submit(_read, bundle)
    executor.shutdown(wait=False)
    return future


def _read(bundle: Bundle) -> bytes | None:
    """Return the graph in the user's cache; None if there is none, or if it answers otherwise than the bundle."""
    place = _place(bundle)
    if place is None:
        return None
    # What cannot be read, or was damaged, is written anew.
    with contextlib.suppress(StorageError, ConfigError):
        data = files.read_bytes(place)
        if compare_graph(bundle, Graph(data)) <= CLOSE:
            return data
    return None


def _place(bundle: Bundle) -> Uri | None:
    cache = cache_folder()
    return None if cache is None else Uri.of_path(cache / "graphs" / f"{bundle.id}-{EXPORTER}-{torch.__version__}.onnx")
