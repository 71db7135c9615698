"""Graphs: networks written as ONNX, which ONNX Runtime computes on a CPU without PyTorch.

Axes: N clips, F mel bins, T frames (a clip may have other axes), D numbers of an embedding, O outputs.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from mgc.errors import ConfigError, shorten

FEATURES: Final = "features"
EMBEDDING: Final = "embedding"
LOGITS: Final = "logits"
SOUNDS: Final = "sounds"
"""Names of a graph's input and outputs."""

_OPSET: Final = 18
"""Version of ONNX's operators. Programs of 2023 and later know it."""


class Graph:
    """A graph, ready to compute on one thread of a CPU.

    Args:
        data: bytes of an ONNX file that `write_graph` wrote.

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


def write_graph(network: nn.Module, clips_NFT: torch.Tensor, outputs: Sequence[str], any_frames: bool) -> bytes:
    """Return a network as the bytes of an ONNX file, for any number of clips.

    Args:
        network: network in evaluation mode, from clips to a tuple of tensors (N, …).
        clips_NFT: clips for which it is traced, two or more.
        outputs: names of the tensors.
        any_frames: whether the graph takes clips of any number of frames, too.

    Raises:
        ConfigError: the network does something for which ONNX has no operator.
    """
    axes: dict[str, Mapping[int, str]] = {name: {0: "clips"} for name in (FEATURES, *outputs)}
    if any_frames:
        axes[FEATURES] = {0: "clips", 2: "frames"}
    # The exporter that follows a trace is called deprecated. Its successor takes twenty times as long, and needs two
    # more packages. It also warns of what a trace cannot see; whoever calls this compares the numbers.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        file = Path(folder, "graph.onnx")
        try:
            torch.onnx.export(
                network,
                (clips_NFT,),
                file,
                dynamo=False,
                input_names=[FEATURES],
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=_OPSET,
            )
        except RuntimeError as error:
            raise ConfigError(f"graph: ONNX cannot hold this network ({shorten(error)}); use PyTorch.") from None
        return file.read_bytes()
