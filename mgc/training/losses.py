"""Losses over soft targets, including those for unbalanced genres.

Axes: B batch, G genres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.errors import TrainingError

LossKind = Literal["cross_entropy", "focal", "balanced_softmax", "logit_adjusted"]
"""Kind of loss; see `LossConfig`."""

SHIFTS_PRIORS: Final = ("balanced_softmax", "logit_adjusted")
"""Kinds of loss that train the logits for balanced genres."""

_SMALLEST_MISS: Final = 1e-7
"""Smallest 1 - p: below it, a power of 1 - p with an exponent under 1 would have an infinite slope."""


@dataclass(frozen=True, config=STRICT)
class LossConfig:
    """The loss that training minimises.

    A clip has logits z, probabilities p = softmax(z) and targets y. The training set has n_g clips of genre g, a share
    π_g of all; the counts are those of the data, before any resampling. Targets may be soft (label smoothing, mixup):
    every kind is a sum over genres, each weighted by its share of the target.

    Sampling and loss can each correct for rare genres; together they correct twice. Balanced sampling already gives
    equal priors, so with `balanced_softmax` or `logit_adjusted` on top the rare genres win by as much as they lost
    before. `TrainingConfig` refuses this for `class_balanced` and `progressive` sampling. `square_root` and
    `repeat_factor` balance only in part, so it is allowed with them, but corrects too much.

    Attributes:
        kind: `cross_entropy`: -Σ_g y_g log p_g.
            `focal`: -Σ_g y_g (1 - p_g)^gamma log p_g (Lin et al. 2017, over a softmax; its α is `beta` here).
            `balanced_softmax`: cross-entropy of z + log n (Ren et al. 2020).
            `logit_adjusted`: cross-entropy of z + tau log π (Menon et al. 2021); tau 1 equals `balanced_softmax`.
        gamma: exponent of `focal`; the larger it is, the less well-answered clips count. 0 gives cross-entropy.
        tau: factor of `logit_adjusted`.
        beta: β of the weights by which each genre's term is multiplied, for `cross_entropy` and `focal`; see
            `effective_number_weights` (Cui et al. 2019: 0.9 to 0.9999). 0 weights all genres equally.
    """

    kind: LossKind = "cross_entropy"
    gamma: Annotated[float, Field(ge=0.0, le=20.0)] = 2.0
    tau: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    beta: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @model_validator(mode="after")
    def _corrects_once(self) -> Self:
        if self.beta and self.kind in SHIFTS_PRIORS:
            raise ValueError(f"kind {self.kind} and weights by beta {self.beta:g} both raise rare genres; set beta 0")
        return self

    @property
    def needs_counts(self) -> bool:
        """Whether the loss depends on how many clips each genre has."""
        return self.beta > 0 or self.kind in SHIFTS_PRIORS


def soft_targets(genre_B: torch.Tensor, genres: int, smoothing: float) -> torch.Tensor:
    """Return one-hot targets with label smoothing (Szegedy et al. 2016): float32 (B, G), rows summing to one.

    Args:
        genre_B: int64 logit indices.
        genres: number of logits.
        smoothing: share spread evenly over all genres, in [0, 1).
    """
    one_hot_BG = nn.functional.one_hot(genre_B, genres).to(torch.float32)
    return one_hot_BG * (1 - smoothing) + smoothing / genres


def cross_entropy(logits_BG: torch.Tensor, targets_BG: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy in nats against soft targets, a float32 scalar.

    Args:
        logits_BG: of any floating type.
        targets_BG: float32, rows summing to one.
    """
    return -(targets_BG * torch.log_softmax(logits_BG.float(), dim=1)).sum(dim=1).mean()


def effective_number_weights(class_counts: Sequence[int], beta: float) -> torch.Tensor:
    """Return weights by effective number of samples (Cui et al. 2019): float64 (G,), summing to the number of genres.

    They are proportional to (1 - β) / (1 - β^n_g): all equal for β = 0, and towards 1 / n_g as β goes to 1.

    Args:
        class_counts: n_g, all greater than zero.
        beta: β in [0, 1).
    """
    count_G = torch.tensor(class_counts, dtype=torch.float64)
    weight_G = (1 - beta) / (1 - beta**count_G)
    return weight_G * (len(weight_G) / weight_G.sum())


class Loss:
    """A configured loss: mean over a batch, in nats, a float32 scalar.

    Args:
        config: kind of loss and its parameters.
        class_counts: training clips of each genre, in the order of the logits, all greater than zero; optional if the
            loss does not depend on them.
        device: device of the logits.

    Raises:
        TrainingError: the counts are needed but missing, or a genre has no clips.
    """

    def __init__(self, config: LossConfig, class_counts: Sequence[int], device: torch.device) -> None:
        if config.needs_counts and (not class_counts or min(class_counts) < 1):
            raise TrainingError(
                f"training: the loss {config.kind} needs the number of training clips of each genre, at least one; "
                f"got {list(class_counts)}."
            )
        self._gamma = config.gamma if config.kind == "focal" else 0.0
        self._shift_G: torch.Tensor | None = None
        self._weight_G: torch.Tensor | None = None
        count_G = torch.tensor(class_counts, dtype=torch.float64)
        if config.kind == "balanced_softmax":
            self._shift_G = count_G.log().float().to(device)
        elif config.kind == "logit_adjusted":
            self._shift_G = (config.tau * (count_G / count_G.sum()).log()).float().to(device)
        if config.beta:
            self._weight_G = effective_number_weights(class_counts, config.beta).float().to(device)

    def __call__(self, logits_BG: torch.Tensor, targets_BG: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch.

        Args:
            logits_BG: of any floating type.
            targets_BG: float32, rows summing to one.
        """
        logits_BG = logits_BG.float()
        if self._shift_G is not None:
            logits_BG = logits_BG + self._shift_G
        log_BG = torch.log_softmax(logits_BG, dim=1)
        terms_BG = -targets_BG * log_BG
        if self._gamma:
            miss_BG = -torch.expm1(log_BG)
            terms_BG = terms_BG * miss_BG.clamp(min=_SMALLEST_MISS) ** self._gamma
        if self._weight_G is not None:
            terms_BG = terms_BG * self._weight_G
        return terms_BG.sum(dim=1).mean()


def l2_penalty(model: nn.Module, biases: bool = False) -> torch.Tensor:
    """Return the sum of squared convolution and dense weights, without normalisation (Keras' `kernel_regularizer`).

    Args:
        model: model whose weights are summed.
        biases: whether to include the biases of convolutions and dense layers (Keras' `bias_regularizer`).
    """
    squares = []
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            squares.append(module.weight.square().sum())
            if biases and module.bias is not None:
                squares.append(module.bias.square().sum())
    return torch.stack(squares).sum() if squares else torch.zeros(())
