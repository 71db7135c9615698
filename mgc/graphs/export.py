"""A bundle's network as a graph: from features as they are stored to the outputs that its answers are made of.

Axes: N clips, F mel bins, T frames (a clip may have other axes), D numbers of an embedding, O outputs, S sounds.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from mgc.bundle import Bundle
from mgc.errors import BundleError, ConfigError, shorten
from mgc.features.front_end import clip_form
from mgc.models.architecture import graph_takes_any_frames
from mgc.models.graph import EMBEDDING, FEATURES, LOGITS, SOUNDS, Graph
from mgc.models.guess import GuessConfig

CLOSE: Final = 1e-4
"""Largest difference between PyTorch's and ONNX Runtime's probabilities, and between their embeddings as a share of the
largest number in them."""

EXPORTER: Final = 1
"""Raised when the graph of a bundle becomes another one, so that graphs in a user's cache are written anew."""

_OPSET: Final = 18
"""Version of ONNX's operators. Programs of 2023 and later know it."""

_TRIED: Final = ((1, 0), (3, 37))
"""Clips, and frames besides those of the front end, for which a graph is compared with its network."""


class _Network(nn.Module):
    """What of a bundle becomes its graph: normalisation, network, adjustment."""

    shift_O: torch.Tensor  # noqa: N815  (axes in capitals)

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.model = copy.deepcopy(bundle.model).cpu().eval()
        self._normalization = bundle.normalization
        shift_O = np.zeros(len(bundle.vocabulary.tags), np.float32)
        if bundle.adjustment is not None:
            shift_O = bundle.adjustment.apply(shift_O)
        self.register_buffer("shift_O", torch.from_numpy(shift_O))
        self._names_sounds = bundle.sounds is not None

    def forward(self, features_NFT: torch.Tensor) -> tuple[torch.Tensor, ...]:
        embedding_ND = self.model.embed(self._normalization.apply(features_NFT))
        answers = (embedding_ND, self.model.classify(embedding_ND) + self.shift_O)
        return (*answers, self.model.name_sounds(embedding_ND)) if self._names_sounds else answers


def export_graph(bundle: Bundle) -> bytes:
    """Return the graph of a bundle as the bytes of an ONNX file, after comparing it with the network in PyTorch.

    Its input `features` is clips as the front end gives them, in any number, and of any number of frames where the
    network allows it. Its outputs are `embedding` (N, D), `logits` (N, O), and `sounds` (N, S) if the bundle names
    sounds besides, all float32.

    Raises:
        BundleError: the network is a guess, ONNX has no operator for a part of it, or ONNX Runtime answers otherwise.
    """
    if not has_graph(bundle):
        raise BundleError(f"bundle {bundle.id}: a guess has no network to export; choose a bundle of a trained one.")
    any_frames = graph_takes_any_frames(bundle.experiment.model)
    try:
        data = write_graph(_Network(bundle), torch.from_numpy(_noise(bundle, 2, 0)), output_names(bundle), any_frames)
        difference = compare_graph(bundle, Graph(data))
    except ConfigError as error:
        raise BundleError(f"bundle {bundle.id}: {error}") from None
    if difference > CLOSE:
        raise BundleError(
            f"bundle {bundle.id}: ONNX Runtime answers otherwise than PyTorch, by {difference:.1g}; use PyTorch, and "
            "report it as a bug in mgc."
        )
    return data


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


def has_graph(bundle: Bundle) -> bool:
    """Return whether a bundle has a network that can be exported; a guess has none."""
    return not isinstance(bundle.experiment.model, GuessConfig)


def output_names(bundle: Bundle) -> tuple[str, ...]:
    """Return the names of the outputs of a bundle's graph, in their order."""
    return (EMBEDDING, LOGITS) if bundle.sounds is None else (EMBEDDING, LOGITS, SOUNDS)


@torch.inference_mode()
def compare_graph(bundle: Bundle, graph: Graph) -> float:
    """Return the largest difference between a bundle's network in PyTorch and a graph on noise, as `CLOSE` counts it.

    Raises:
        ConfigError: the graph takes other features.
    """
    network, any_frames = _Network(bundle), graph_takes_any_frames(bundle.experiment.model)
    differences = []
    for clips, more_frames in _TRIED:
        features_NFT = _noise(bundle, clips, more_frames if any_frames else 0)
        wanted_ND, *wanted = (output.numpy() for output in network(torch.from_numpy(features_NFT)))
        found_ND, found_NO = graph(features_NFT)
        wanted_NO = np.concatenate(wanted, axis=1)
        if (found_ND.shape, found_NO.shape) != (wanted_ND.shape, wanted_NO.shape):
            return np.inf
        # A tiny network may answer noise with nothing but zeros.
        largest = max(float(np.abs(wanted_ND).max()), float(np.finfo(np.float32).tiny))
        differences.append(np.abs(found_ND - wanted_ND).max() / largest)
        differences.append(np.abs(_probabilities(bundle, found_NO) - _probabilities(bundle, wanted_NO)).max())
    # A number that is none is larger than any.
    return float(np.nan_to_num(np.max(differences), nan=np.inf))


def _probabilities(bundle: Bundle, outputs_NO: np.ndarray) -> np.ndarray:
    own = len(bundle.vocabulary.tags)
    parts = [bundle.vocabulary.probabilities(outputs_NO[:, :own])]
    if bundle.sounds is not None:
        parts.append(bundle.sounds.probabilities(outputs_NO[:, own:]))
    return np.concatenate(parts, axis=1)


def _noise(bundle: Bundle, clips: int, more_frames: int) -> np.ndarray:
    """Return clips of noise like features of the bundle's front end, the same each time.

    Args:
        bundle: the bundle.
        clips: number of clips.
        more_frames: frames besides those of the front end.
    """
    clip, scaling = clip_form(bundle.experiment.front_end), bundle.normalization
    shape = clip.shape if not more_frames else (clip.shape[0], clip.shape[1] + more_frames)
    # A bin is a colour of an image, and else a row or a number.
    bins = (1, 1, -1) if len(shape) == 3 else (-1, *(1,) * (len(shape) - 1))
    offset_F1, scale_F1 = (np.reshape(each, bins) for each in (scaling.offset_F, scaling.scale_F))
    noise_NFT = offset_F1 + scale_F1 * np.random.default_rng(0).standard_normal((clips, *shape))
    if clip.dtype == "uint8":
        noise_NFT = noise_NFT.round().clip(0, 255)
    return noise_NFT.astype(clip.dtype)
