"""Memory of a training step, counted on the meta device without computing or allocating anything."""

from __future__ import annotations

from typing import Final

import torch
from torch.nn import functional

from mgc.models.architecture import AnyModelConfig, build_model

_COPIES: Final = 4
"""Copies of each weight: itself, its gradient and two moments of Adam."""

_FLOAT_BYTES: Final = 4


def step_bytes(config: AnyModelConfig, input_shape: tuple[int, ...], genres: int, clips: int) -> int:
    """Return the bytes of weights, gradients, moments, the batch, and the activations kept for the backward pass.

    The allocator and the kernels usually need 10 to 30 % more, which is not counted.

    Args:
        config: configuration of the network.
        input_shape: shape of one clip's features.
        genres: number of logits.
        clips: number of clips in the batch of one worker.
    """
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        # Count views of the same storage once; the weights are counted below.
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.device("meta"):
        model = build_model(config, input_shape, genres).train()
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        features = torch.empty(clips, *input_shape)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits_BG = model(features)
            functional.cross_entropy(logits_BG, torch.zeros(clips, dtype=torch.int64))
    activations = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
    weights = sum(parameter.numel() for parameter in model.parameters()) * _FLOAT_BYTES
    return activations + _COPIES * weights + features.numel() * _FLOAT_BYTES
