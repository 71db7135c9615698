"""Losses over soft targets.

Axes: B batch, G genres.
"""

from __future__ import annotations

import torch
from torch import nn


def soft_targets(genre_B: torch.Tensor, genres: int, smoothing: float) -> torch.Tensor:
    """One-hot targets with label smoothing (Szegedy et al. 2016): float32 (B, G), rows summing to one.

    Args:
        genre_B: int64 logit indices.
        genres: number of logits.
        smoothing: share spread evenly over all genres, in [0, 1).
    """
    one_hot_BG = nn.functional.one_hot(genre_B, genres).to(torch.float32)
    return one_hot_BG * (1 - smoothing) + smoothing / genres


def cross_entropy(logits_BG: torch.Tensor, targets_BG: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats against soft targets, a float32 scalar.

    Args:
        logits_BG: of any floating type.
        targets_BG: float32, rows summing to one.
    """
    return -(targets_BG * torch.log_softmax(logits_BG.float(), dim=1)).sum(dim=1).mean()


def l2_penalty(model: nn.Module, biases: bool = False) -> torch.Tensor:
    """Sum of squared convolution and dense weights (Keras' `kernel_regularizer`), normalisation left out; a scalar.

    Args:
        model: whose weights.
        biases: whether those of convolutions and dense layers count too (Keras' `bias_regularizer`).
    """
    squares = []
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            squares.append(module.weight.square().sum())
            if biases and module.bias is not None:
                squares.append(module.bias.square().sum())
    return torch.stack(squares).sum() if squares else torch.zeros(())
