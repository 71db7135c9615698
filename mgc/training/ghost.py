"""Over which clips batch normalisation takes mean and deviation in training.

By itself it takes those that a worker computes at once, so two workers of 32 clips train another model than one of 64.
A recipe that states `TrainingConfig.normalization_batch` does not depend on that.

Axes: B batch, other axes as the layer takes them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mgc.errors import ConfigError


class GhostBatchNorm(_BatchNorm):
    """Batch normalisation over parts of the batch (Hoffer et al. 2017), with the weights and statistics of another.

    Args:
        layer: whose parameters and buffers it shares, under the same names.
        clips: of a part; where the batch is no multiple of it, parts are of about one size, none larger.
    """

    def __init__(self, layer: _BatchNorm, clips: int) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked
        self.training = layer.training
        self._clips = clips

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalised, of the same shape."""
        parts = -(-len(input) // self._clips)
        if not self.training or parts < 2:
            return super().forward(input)
        return torch.cat([super(GhostBatchNorm, self).forward(part) for part in input.tensor_split(parts)])

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """That of the layer it stands for had the right axes."""


def normalize_over(model: nn.Module, clips: int) -> None:
    """Let all batch normalisation in a model take mean and deviation over so many clips at a time.

    Args:
        model: its state keeps its names. One whose outermost module is such a layer is left as it is.
        clips: two at least.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, GhostBatchNorm(child, clips))


def sharing_workers(normalization_batch: int, at_once: int, workers: int, on_gpus: bool) -> int:
    """How many workers take mean and deviation together: 1 where each can by itself.

    Args:
        normalization_batch: of the recipe; 0 for what a worker computes at once.
        at_once: clips that a worker computes at once.
        workers: all of them.
        on_gpus: whether they compute on GPUs: there workers can (SyncBatchNorm).

    Raises:
        ConfigError: it cannot be had.
    """
    if not normalization_batch or at_once % normalization_batch == 0:
        return 1
    several = f"training.normalization_batch {normalization_batch}: a worker computes {at_once} clips at once"
    if normalization_batch < at_once:
        raise ConfigError(f"{several}, which is no multiple of it; take other --workers or --accumulation.")
    if not on_gpus:
        raise ConfigError(
            f"{several}, and to normalise over those of several workers takes GPUs; take fewer --workers, or set "
            f"--training.normalization_batch {at_once}."
        )
    if normalization_batch % at_once or workers % (normalization_batch // at_once):
        raise ConfigError(f"{several}, and {workers} workers cannot be grouped to share it; take other --workers.")
    return normalization_batch // at_once
