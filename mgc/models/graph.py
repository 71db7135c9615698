"""Graphs: networks written as ONNX, which ONNX Runtime computes on a CPU without PyTorch.

Axes: N clips, F mel bins, T frames (a clip may have other axes), D numbers of an embedding, O outputs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

import numpy as np

from mgc.errors import ConfigError, shorten

FEATURES: Final = "features"
EMBEDDING: Final = "embedding"
LOGITS: Final = "logits"
SOUNDS: Final = "sounds"
"""Names of a graph's input and outputs."""


class Graph:
    """A graph, ready to compute on one thread of a CPU.

    Args:
        data: bytes of an ONNX file that `mgc.graphs.export` wrote.

    Raises:
        ConfigError: ONNX Runtime cannot compute it.
    """

    def __init__(self, data: bytes) -> None:
        # ONNX Runtime would report to Microsoft, and keep an id of the machine in the user's cache. It looks at this
        # variable once, as it is imported; its function for the same purpose comes too late.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        with _explain():
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def __call__(self, features_NFT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings, float32 (N, D), and all outputs side by side, float32 (N, O).

        Args:
            features_NFT: clips as the graph takes them.

        Raises:
            ConfigError: the graph takes other features.
        """
        with _explain():
            embedding_ND, *outputs = self._session.run(None, {FEATURES: features_NFT})
        return embedding_ND, np.concatenate(outputs, axis=1)


@contextlib.contextmanager
def _explain() -> Iterator[None]:
    """Turn ONNX Runtime's errors, which have no base class of their own, into ConfigError."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        raise ConfigError(f"graph: ONNX Runtime cannot compute it ({shorten(error)}); export it anew.") from None
