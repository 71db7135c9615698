"""A network as a graph, computed by ONNX Runtime, over the same network in PyTorch, on one core.

Tracks are three clips of noise each. They go through `Predict` in turn, as the label job's batches do.
"""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np

from tests.benchmarks.front_end.one_core import cpu_seconds, median_ratio
from tests.benchmarks.result import Result

BUNDLES = {"mn04_graph_speedup": "mn04", "shipped_graph_speedup": "shipped"}
AIMS = {"mn04_graph_speedup": "at least 2", "shipped_graph_speedup": "at least 1.2"}
TRACKS, CLIPS_OF_TRACK = 8, 3


def measure(rounds: int) -> list[Result]:
    """CPU of PyTorch over that of ONNX Runtime, median over the rounds."""
    import torch

    from mgc.bundle import load_bundle
    from mgc.bundle_names import BundleName
    from mgc.features.front_end import build_front_end
    from mgc.graphs.export import export_graph
    from mgc.models.graph import Graph

    torch.set_num_threads(1)
    results = []
    for name, bundle_name in BUNDLES.items():
        if not BundleName(bundle_name).is_there:
            results.append(Result(name, None, AIMS[name], f"`mgc pull {bundle_name}` first"))
            continue
        bundle = load_bundle(bundle_name)
        by_torch, by_graph = bundle.predictor(), bundle.predictor(graph=Graph(export_graph(bundle)))
        shape = build_front_end(bundle.experiment.front_end).shape
        noise_NFT = np.random.default_rng(0).uniform(0, 1, (TRACKS * CLIPS_OF_TRACK, *shape))
        scale = 255 if by_torch.dtype == np.uint8 else 1
        clips_NFT = (scale * noise_NFT).astype(by_torch.dtype)
        ways = {"torch": partial(by_torch.outputs, clips_NFT), "graph": partial(by_graph.outputs, clips_NFT)}
        seconds = cpu_seconds(ways, rounds)
        torch_ms, graph_ms = (1000 * statistics.median(seconds[each]) / TRACKS for each in ("torch", "graph"))
        apart = float(np.abs(by_torch.outputs(clips_NFT) - by_graph.outputs(clips_NFT)).max())
        detail = f"{torch_ms:.1f} over {graph_ms:.1f} ms a track; logits differ by at most {apart:.0e}"
        results.append(Result(name, median_ratio(seconds["torch"], seconds["graph"]), AIMS[name], detail))
    return results
