"""The training configuration, and the learning rates that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self, assert_never

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.training.augment import AugmentConfig
from mgc.training.losses import SHIFTS_PRIORS, LossConfig
from mgc.training.sampling import REPEAT_THRESHOLD, Balance, Sampling

Schedule = Literal["constant", "one_cycle"]
Precision = Literal["float32", "bf16"]

FIRST_RATE: Final = 0.01
"""Rate at the start of the warm-up, as a share of the peak."""


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: largest number of passes over the training set.
        batch_size: clips per step, over all workers together.
        normalization_batch: clips over which batch normalisation takes mean and deviation in training. If this is less
            than a worker computes at once, it is ghost batch normalisation (Hoffer et al. 2017). 0 takes the clips that
            a worker computes at once, so the model then depends on the number of workers. See `normalization`.
        optimizer: `adam` (weight decay as the gradient of an L2 term), `adamw` (decoupled) or `sgd`.
        momentum: momentum of `sgd`; other optimizers have their own.
        learning_rate: peak of the learning rate.
        body_learning_rate: peak for all but the head, which a training from other weights should change less; null
            for the same.
        schedule: `constant`, or `one_cycle`: see `learning_rate`.
        warmup: share of the training in which the rate rises, for `one_cycle`.
        weight_decay: the optimizer's.
        l2: factor of the sum of squared kernels added to the loss, as in papers that use Keras.
        l2_biases: whether that sum includes the biases.
        label_smoothing: share of each target spread over all genres.
        gradient_clip: largest norm of the gradient; 0 turns it off.
        balance: how often each genre is seen; see `sampling.repeat_rates`.
        repeat_threshold: for `repeat_factor`, the share of the clips below which a genre is repeated.
        loss: loss that training minimises.
        head_epochs: epochs of classifier re-training after the others (cRT, Kang et al. 2020, with 10). The embedding
            of the best epoch is frozen, with the running statistics of its normalisation. A new head is trained on it
            with class-balanced sampling and cross-entropy, and the schedule starts over. The best of these epochs gives
            the model. 0 turns it off.
        adjust_after: values of τ to try after training. τ times the logarithm of the training priors is subtracted from
            the logits (Menon et al. 2021, where τ is 1), with the τ that gives the validation tracks the best macro-F1.
            A single value is used as it is; an empty list turns it off.
        augment: augmentation of the training clips.
        average: decay per step of a running mean of the weights (Polyak and Juditsky 1992), which is then validated
            and kept; see `averaged_decay`. 0 turns it off.
        select: epoch whose weights are kept: the one with the highest validation `macro_f1`, the one with the lowest
            validation `loss`, or the `last`.
        patience: epochs without improvement after which training, or re-training, ends early; 0 turns it off.
        precision: coarsest number format that this recipe allows. With `bf16` the network runs under autocast on
            devices that compute in it (see `computes_bf16`), and in float32 on others.
        seed: seed of weights, order, sampling and augmentation.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    normalization_batch: Annotated[int, Field(ge=0, le=65_536)] = 0
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 2e-3
    body_learning_rate: Annotated[float | None, Field(gt=0.0, le=10.0)] = None
    schedule: Schedule = "one_cycle"
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.15
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.01
    l2: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    l2_biases: bool = False
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    gradient_clip: Annotated[float, Field(ge=0.0)] = 0.0
    balance: Balance = "class_balanced"
    repeat_threshold: Annotated[float, Field(gt=0.0, le=1.0)] = REPEAT_THRESHOLD
    loss: LossConfig = Field(default_factory=LossConfig)
    head_epochs: Annotated[int, Field(ge=0, le=10_000)] = 0
    adjust_after: Annotated[tuple[Annotated[float, Field(ge=0.0, le=10.0)], ...], Field(max_length=100)] = ()
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    average: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    select: Literal["macro_f1", "loss", "last"] = "macro_f1"
    patience: Annotated[int, Field(ge=0, le=10_000)] = 0
    precision: Precision = "float32"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _corrects_once(self) -> Self:
        """Refuse a configuration that would correct for rare genres twice."""
        means = []
        if self.balance in ("class_balanced", "progressive"):
            means.append(f"balance {self.balance}")
        if self.loss.kind in SHIFTS_PRIORS:
            means.append(f"loss.kind {self.loss.kind}")
        if self.loss.beta:
            means.append(f"loss.beta {self.loss.beta:g}")
        if any(self.adjust_after):
            means.append("adjust_after")
            if self.head_epochs:
                means.append(f"head_epochs {self.head_epochs}")
        if len(means) > 1:
            together = " and ".join(means)
            raise ValueError(
                f"{together} each make up for rare genres by themselves and correct twice together; "
                "keep one (and balance natural beside it)"
            )
        return self

    @model_validator(mode="after")
    def _normalizes_over_two(self) -> Self:
        if self.normalization_batch == 1:
            raise ValueError("normalization_batch is 0, or at least 2: there is no deviation over one clip")
        if self.normalization_batch and self.batch_size % self.normalization_batch:
            raise ValueError(
                f"normalization_batch {self.normalization_batch} does not divide batch_size {self.batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _patience_has_a_score(self) -> Self:
        if self.patience and self.select == "last":
            raise ValueError("patience waits for a better epoch, but select last keeps the last; set only one")
        return self

    def sampling(self, counts: Mapping[str, int]) -> Sampling:
        """Return how often clips of each genre are used, epoch by epoch.

        Args:
            counts: training clips of each genre.
        """
        return Sampling(counts, self.balance, self.epochs, self.repeat_threshold)

    def retrains(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, trains the head alone."""
        return epoch >= self.epochs

    def validation_score(self, row: Mapping[str, float]) -> float:
        """Return the score of an epoch by `select`; higher is better.

        Args:
            row: row of a history with `epoch`, and with `validation_loss` and `validation_macro_f1` unless `select` is
                `last`.
        """
        match self.select:
            case "macro_f1":
                return row["validation_macro_f1"]
            case "loss":
                return -row["validation_loss"]
            case "last":
                return row["epoch"]
            case _:
                assert_never(self.select)


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """Return the learning rate at a point of the training.

    `one_cycle` rises linearly from `FIRST_RATE` times the peak to the peak over the first `warmup` of the training, and
    then falls along half a cosine to zero (after Smith and Topin 2018).

    Args:
        config: schedule, peak and warm-up.
        progress: share of the training that is done, 0 to 1.
    """
    if config.schedule == "constant":
        return config.learning_rate
    if progress < config.warmup:
        return config.learning_rate * (FIRST_RATE + (1 - FIRST_RATE) * progress / config.warmup)
    rest = (min(progress, 1.0) - config.warmup) / (1 - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * rest))


def averaged_decay(average: float, steps: int) -> float:
    """Return the decay of the running mean at a step.

    It is smaller in the first steps, (1 + s) / (10 + s), so that the random initial weights are soon forgotten (as in
    TensorFlow's ExponentialMovingAverage).

    Args:
        average: limit of the decay, `TrainingConfig.average`.
        steps: steps done before.
    """
    return min(average, (1 + steps) / (10 + steps))
