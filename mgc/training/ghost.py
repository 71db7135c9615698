"""The clips over which batch normalisation takes mean and deviation in training.

By default these are the clips that a worker computes at once, so two workers with 32 clips each train a different model
from one worker with 64. A recipe that sets `TrainingConfig.normalization_batch` does not depend on this.

Axes: B batch, other axes as the layer takes them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mgc.errors import ConfigError


class GhostBatchNorm(_BatchNorm):
    """Batch normalisation over parts of the batch (Hoffer et al. 2017), in place of another layer.

    Args:
        layer: layer to replace; its parameters and buffers are shared, under the same names.
        clips: largest number of clips in a part; if the batch is not a multiple of it, the parts are about equal.
    """

    def __init__(self, layer: _BatchNorm, clips: int) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked
        self.training = layer.training
        self._clips = clips

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the normalised input, in the same shape."""
        parts = -(-len(input) // self._clips)
        if not self.training or parts < 2:
            return super().forward(input)
        return torch.cat([super(GhostBatchNorm, self).forward(part) for part in input.tensor_split(parts)])

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Check nothing: the axes are those of the layer that this one replaces."""


def normalize_over(model: nn.Module, clips: int) -> None:
    """Make all batch normalisation in a model take mean and deviation over `clips` clips at a time.

    Args:
        model: model to change in place; the names in its state stay the same. If the model itself is such a layer, it
            is left as it is.
        clips: number of clips, at least two.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, GhostBatchNorm(child, clips))


def sharing_workers(normalization_batch: int, at_once: int, workers: int, on_gpus: bool) -> int:
    """Return how many workers take mean and deviation together; 1 if each can do so on its own.

    Args:
        normalization_batch: number of clips in the recipe; 0 for those that a worker computes at once.
        at_once: number of clips that a worker computes at once.
        workers: number of all workers.
        on_gpus: whether workers compute on GPUs, where they can normalise together (SyncBatchNorm).

    Raises:
        ConfigError: these workers cannot normalise over that many clips.
    """
    if not normalization_batch or at_once % normalization_batch == 0:
        return 1
    several = f"training.normalization_batch {normalization_batch}: a worker computes {at_once} clips at once"
    if normalization_batch < at_once:
        raise ConfigError(f"{several}, not a multiple of it; take other --workers or --accumulation.")
    if not on_gpus:
        raise ConfigError(
            f"{several}, and only GPUs can normalise over several workers; take fewer --workers, or set "
            f"--training.normalization_batch {at_once}."
        )
    if normalization_batch % at_once or workers % (normalization_batch // at_once):
        raise ConfigError(f"{several}, and {workers} workers cannot be grouped to share it; take other --workers.")
    return normalization_batch // at_once
