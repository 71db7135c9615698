"""The graph with which CPUs compute a bundle's network, kept in the user's cache."""

from __future__ import annotations

import contextlib
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


def graph_for(bundle: Bundle, profile: Profile) -> bytes | None:
    """Return the graph with which the CPUs of a job compute a bundle's network; None if PyTorch does.

    It comes from the user's cache if it is there, and is kept there otherwise.
    """
    installed = "onnxruntime" in dict(Software.here().versions)
    return _cached(bundle) if installed and not profile.gpus and has_graph(bundle) else None


@lru_cache(maxsize=1)
def _cached(bundle: Bundle) -> bytes | None:
    cache = cache_folder()
    name = f"{bundle.id}-{EXPORTER}-{torch.__version__}.onnx"
    place = None if cache is None else Uri.of_path(cache / "graphs" / name)
    if place is not None:
        # What cannot be read, or was damaged, is written anew.
        with contextlib.suppress(StorageError, ConfigError):
            data = files.read_bytes(place)
            if compare_graph(bundle, Graph(data)) <= CLOSE:
                return data
    try:
        data = export_graph(bundle)
    except BundleError as error:
        say(f"PyTorch computes the network, which takes longer: {error}")
        return None
    if place is not None:
        # Without a cache, the next run writes it again.
        with contextlib.suppress(StorageError):
            files.write_bytes(place, data)
    return data
