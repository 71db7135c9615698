"""A trained network in PyTorch, as `Predict` uses it.

Axes: N clips, F mel bins, T frames (a clip may have other axes), D numbers of an embedding, O outputs.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from mgc.features.normalization import Normalization
from mgc.labeling.adjust import PriorAdjustment
from mgc.models.blocks import Classifier


class TorchNetwork:
    """A network with what comes before and after it: normalisation and adjustment.

    Args:
        model: network from normalised features to logits; it is copied.
        normalization: normalisation of the stored features.
        adjustment: adjustment of the logits, or None.
        device: device to compute on; the CPU by default.
    """

    def __init__(
        self,
        model: Classifier,
        normalization: Normalization,
        adjustment: PriorAdjustment | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._device = device or torch.device("cpu")
        # mypy: torch's stubs lack memory_format.
        copied = copy.deepcopy(model).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._model: Classifier = copied.eval()
        self._normalization = normalization
        self._adjustment = adjustment

    @torch.inference_mode()
    def __call__(self, clips_NFT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings, float32 (N, D), and outputs, float32 (N, O).

        Args:
            clips_NFT: features as stored.
        """
        embedding_ND = self._model.embed(self._normalization.apply(torch.from_numpy(clips_NFT).to(self._device)))
        return embedding_ND.float().cpu().numpy(), self._classify(embedding_ND)

    @torch.inference_mode()
    def classify(self, embedding_ND: np.ndarray) -> np.ndarray:
        """Return the outputs of the network for embeddings, adjusted if the bundle says so: float32 (N, O).

        Args:
            embedding_ND: embeddings of clips or of tracks, float32.
        """
        return self._classify(torch.from_numpy(embedding_ND).to(self._device))

    def _classify(self, embedding_ND: torch.Tensor) -> np.ndarray:
        own_NO: np.ndarray = self._model.classify(embedding_ND).float().cpu().numpy()
        if self._adjustment is not None:
            own_NO = self._adjustment.apply(own_NO)
        sounds_NO = self._model.name_sounds(embedding_ND).float().cpu().numpy()
        return np.concatenate([own_NO, sounds_NO], axis=1)
