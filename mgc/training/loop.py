"""The training loop: one epoch over batches, validation over batches, and a state that can be saved without pickle.

It knows neither where batches come from nor who else trains: a caller may hand it a model wrapped for data-parallel
training, and sums the validation counts of all workers itself.

Axes: B batch, F mel bins, T frames, G genres.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Final, Literal, Self, assert_never

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mgc.configuration import STRICT
from mgc.errors import TrainingError
from mgc.features.normalization import Normalization
from mgc.training.augment import AugmentConfig, augment, mixup
from mgc.training.figures import EpochFigures
from mgc.training.losses import SHIFTS_PRIORS, Loss, LossConfig, cross_entropy, l2_penalty, soft_targets
from mgc.training.sampling import REPEAT_THRESHOLD, Balance, Sampling
from mgc.training.seeds import derive_seed

Schedule = Literal["constant", "one_cycle"]
Precision = Literal["float32", "bf16"]

SMALLEST_BATCH: Final = 2
"""Batch normalisation cannot take a deviation over one clip."""

FIRST_RATE: Final = 0.01
"""Where the warm-up begins, as a share of the peak."""


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: passes over the training set, at most.
        batch_size: clips a step, over all workers together.
        optimizer: `adam` (weight decay as the gradient of an L2 term), `adamw` (decoupled) or `sgd`.
        momentum: of `sgd`; others have their own.
        learning_rate: its peak.
        schedule: `constant`, or `one_cycle`: see `learning_rate`.
        warmup: share of the training in which the rate rises, for `one_cycle`.
        weight_decay: the optimizer's.
        l2: factor of the sum of squared kernels added to the loss, as papers written for Keras mean it.
        l2_biases: whether that sum has the biases in it too.
        label_smoothing: share of each target spread over all genres.
        gradient_clip: largest norm of the gradient; 0 turns it off.
        balance: how often each genre is seen; see `sampling.repeat_rates`.
        repeat_threshold: of `repeat_factor`: genres with a smaller share of the clips are repeated.
        loss: what each step makes smaller.
        head_epochs: epochs of classifier re-training after the others (cRT, Kang et al. 2020; 10 there): the embedding
            of the best epoch stays as it is, running statistics of normalisation included, and a new head is trained
            on it with class-balanced sampling and cross-entropy, the schedule starting over. The model that comes out
            is the best of these epochs. 0 turns it off.
        adjust_after: values of τ; after training, τ times the logarithm of the training priors is subtracted from
            the logits (Menon et al. 2021, where τ is 1), with that of the values which gives the validation tracks
            the best macro-F1. One value is taken as it is, none turns it off.
        augment: what is varied.
        average: decay a step of a running mean of the weights (Polyak and Juditsky 1992), which is what is validated
            and kept; see `averaged_decay`. 0 turns it off.
        select: which epoch is the best, whose weights are kept: that of the highest `macro_f1` of the validation, of
            its lowest `loss`, or the `last`.
        patience: epochs without a better one before training, or re-training, ends early; 0 turns it off.
        precision: `bf16` runs the network under autocast.
        seed: of weights, order, sampling and augmentation.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 2e-3
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
        """Refuse what would make up for rare genres twice."""
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
                f"{together} each make up for rare genres by themselves, together they correct twice; "
                "keep one (and balance natural beside it)"
            )
        return self

    @model_validator(mode="after")
    def _patience_has_a_score(self) -> Self:
        if self.patience and self.select == "last":
            raise ValueError("patience waits for a better epoch, with select last there is none; set one of them")
        return self

    def sampling(self, counts: Mapping[str, int]) -> Sampling:
        """How often clips of each genre are given, epoch by epoch.

        Args:
            counts: training clips of each genre.
        """
        return Sampling(counts, self.balance, self.epochs, self.repeat_threshold)

    def retrains(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, trains the head alone."""
        return epoch >= self.epochs

    def validation_score(self, row: Mapping[str, float]) -> float:
        """How good an epoch was, by `select`: the higher, the better.

        Args:
            row: of a history: `epoch`, and unless the last epoch is taken `validation_loss`, `validation_macro_f1`.
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


@plain_dataclass(frozen=True, eq=False)
class Batch:
    """Clips with their genres.

    Attributes:
        features_BFT: uint8, as they are stored.
        genre_B: int64 logit indices.
        track_ids: B strings, for messages.
    """

    features_BFT: torch.Tensor  # noqa: N815  (axes in capitals)
    genre_B: torch.Tensor  # noqa: N815
    track_ids: list[str]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(self.features_BFT.to(device), self.genre_B.to(device), self.track_ids)


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """The rate at a point of the training.

    `one_cycle` rises on a straight line from `FIRST_RATE` of the peak to the peak, over the first `warmup` of the
    training, and falls along half a cosine to zero (after Smith and Topin 2018).

    Args:
        config: schedule, peak and warm-up.
        progress: the share of the training that is done, 0 to 1.
    """
    if config.schedule == "constant":
        return config.learning_rate
    if progress < config.warmup:
        return config.learning_rate * (FIRST_RATE + (1 - FIRST_RATE) * progress / config.warmup)
    rest = (min(progress, 1.0) - config.warmup) / (1 - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * rest))


def averaged_decay(average: float, steps: int) -> float:
    """The share of the running mean that stays in it at a step.

    Smaller in the first steps, (1 + s) / (10 + s), so that the weights that were drawn at random are soon forgotten
    (as in TensorFlow's ExponentialMovingAverage).

    Args:
        average: its limit, `TrainingConfig.average`.
        steps: done before.
    """
    return min(average, (1 + steps) / (10 + steps))


def _averaged(model: nn.Module, average: float) -> AveragedModel:
    """A copy of a model that takes the mean of its weights, and of the statistics of its normalisation layers."""

    def mean(averaged: torch.Tensor, current: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        # Counters of batches are no mean.
        if not averaged.is_floating_point():
            return current
        return torch.lerp(current, averaged, averaged_decay(average, int(steps)))

    return AveragedModel(model, avg_fn=mean, use_buffers=True)


@contextlib.contextmanager
def _subnormals_as_zero() -> Iterator[None]:
    """Gradients of clips that are learned perfectly fall below 1e-38, where a CPU takes ten times as long."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        # NumPy warns where it meets this setting, so it must not outlast the step.
        torch.set_flush_denormal(False)


def build_optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer | None:
    """The optimizer of a model's parameters; None where there is nothing to train, as in a guess."""
    parameters = list(model.parameters())
    if not parameters:
        return None
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.learning_rate, config.momentum, weight_decay=config.weight_decay)
    optimizer = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return optimizer(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


class Learner:
    """A model, its optimizer and how far training has come.

    Args:
        model: from normalised features to logits; may be wrapped for data-parallel training. One without parameters is
            only scored: its steps change nothing.
        config: how to train.
        normalization: of the stored features.
        genres: number of logits.
        device: where model and batches live.
        class_counts: training clips of each genre, in the order of the logits; may be left out where the loss does not
            depend on them.

    Raises:
        TrainingError: the loss depends on the counts, and they are not there.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        normalization: Normalization,
        genres: int,
        device: torch.device,
        class_counts: Sequence[int] = (),
    ) -> None:
        self.model = model
        self.config = config
        self.device = device
        self._normalization = normalization
        self._genres = genres
        self._loss = Loss(config.loss, class_counts, device)
        self._head_loss = Loss(LossConfig(), class_counts, device)
        self.optimizer = build_optimizer(config, model)
        self._average = _averaged(self._bare(), config.average) if config.average and self.optimizer else None

    @property
    def kept(self) -> nn.Module:
        """The model that is validated and kept: without its data-parallel wrapper, averaged if asked for."""
        return self._average.module if self._average else self._bare()

    def train_epoch(
        self,
        batches: Iterable[Batch],
        epoch: int,
        steps: int,
        rank: int = 0,
        on_step: Callable[[int, float], None] = lambda clips, loss: None,
    ) -> EpochFigures:
        """One pass. The same batches give the same model on the same machine, also after a resume between epochs.

        A batch of fewer than `SMALLEST_BATCH` clips is passed over: the remainder of an epoch may be that small. So all
        workers of data-parallel training must get batches of the same sizes, else one waits for a step of another's.

        Args:
            batches: of training clips.
            epoch: counted from 0; seeds torch's global generator together with the seed and the rank. From
                `config.epochs` on the head is trained; the caller has frozen the rest.
            steps: expected number of batches, for the schedule.
            rank: of this worker; each augments in its own way.
            on_step: called after each step with the clips of its batch and their mean loss, L2 term included.

        Returns:
            The loss without the L2 term and the answers, both as training sees them: augmented, before each step.

        Raises:
            TrainingError: the loss is not finite (names tracks of the batch), or no batch was large enough.
        """
        torch.manual_seed(derive_seed(self.config.seed, epoch, rank))
        self.model.train()
        figures = self._no_figures()
        retrains = self.config.retrains(epoch)
        first, last = (self.config.epochs, self.config.head_epochs) if retrains else (0, self.config.epochs)
        criterion = self._head_loss if retrains else self._loss
        for step, host_batch in enumerate(batches):
            if len(host_batch.genre_B) < SMALLEST_BATCH:
                continue
            done = min(step / max(steps, 1), 1.0)
            rate = learning_rate(self.config, (epoch - first + done) / last)
            for group in self.optimizer.param_groups if self.optimizer else ():
                group["lr"] = rate
            batch = host_batch.to(self.device)
            features_BFT = augment(self._normalization.apply(batch.features_BFT), self.config.augment)
            targets_BG = soft_targets(batch.genre_B, self._genres, self.config.label_smoothing)
            if self.config.augment.mixup:
                features_BFT, targets_BG = mixup(features_BFT, targets_BG, self.config.augment.mixup)
            with self._autocast():
                logits_BG = self.model(features_BFT)
            loss = criterion(logits_BG, targets_BG)
            total = loss
            if self.config.l2:
                total = loss + self.config.l2 * l2_penalty(self.model, self.config.l2_biases)
            value = float(total.detach())
            if not math.isfinite(value):
                tracks = sorted(set(batch.track_ids))
                shown = ", ".join(tracks[:10]) + (", …" if len(tracks) > 10 else "")
                raise TrainingError(
                    f"training: the loss became {value} in epoch {epoch + 1}, step {step + 1} (tracks {shown}); "
                    "lower training.learning_rate or set training.gradient_clip."
                )
            if self.optimizer:
                with _subnormals_as_zero():
                    self.optimizer.zero_grad(set_to_none=True)
                    total.backward()
                    if self.config.gradient_clip:
                        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
                    self.optimizer.step()
                if self._average:
                    self._average.update_parameters(self._bare())
            self._count(figures, logits_BG, batch.genre_B, float(loss.detach()))
            on_step(len(batch.genre_B), value)
        if not figures.clips:
            raise TrainingError(
                f"training: worker {rank} got no batch of {SMALLEST_BATCH} clips or more in epoch {epoch + 1}; "
                "prepare more clips of the training split, raise training.batch_size, or take fewer workers."
            )
        return figures

    @torch.inference_mode()
    def validate(self, batches: Iterable[Batch]) -> EpochFigures:
        """Cross-entropy, whatever the loss of training, and confusion: without augmentation, label smoothing or L2.

        Empty batches count for nothing.
        """
        # Not through the data-parallel wrapper: it waits for every worker at each batch, and here they may have
        # different numbers of them.
        model = self.kept.eval()
        figures = self._no_figures()
        for host_batch in batches:
            if not len(host_batch.genre_B):
                continue
            batch = host_batch.to(self.device)
            with self._autocast():
                logits_BG = model(self._normalization.apply(batch.features_BFT))
            loss = cross_entropy(logits_BG, soft_targets(batch.genre_B, self._genres, 0.0))
            self._count(figures, logits_BG, batch.genre_B, float(loss))
        return figures

    def average_tensors(self) -> dict[str, torch.Tensor]:
        """The running mean of the weights and its number of steps; empty where there is none."""
        state = self._average.state_dict() if self._average else {}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}

    def load_average_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `average_tensors`.

        Raises:
            TrainingError: the tensors are of another model.
        """
        if self._average is None:
            return
        try:
            self._average.load_state_dict(tensors)
        except RuntimeError:
            raise TrainingError(
                "training: the checkpoint's mean of weights is of another model; start training anew."
            ) from None

    def optimizer_tensors(self) -> dict[str, torch.Tensor]:
        """The optimizer's state as named tensors on the CPU, contiguous as safetensors wants them."""
        state = self.optimizer.state_dict()["state"] if self.optimizer else {}
        return {
            f"{index}.{key}": torch.as_tensor(value).cpu().contiguous()
            for index, slot in state.items()
            for key, value in slot.items()
            if value is not None
        }

    def load_optimizer_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `optimizer_tensors`.

        Raises:
            TrainingError: the tensors are of another model.
        """
        shapes = [parameter.shape for parameter in self.model.parameters()]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition(".")
            fits = index.isdecimal() and int(index) < len(shapes) and tensor.shape in (shapes[int(index)], torch.Size())
            if not fits:
                raise TrainingError(
                    f"training: the checkpoint's optimizer state is of another model (at {name}); start training anew."
                )
            state.setdefault(int(index), {})[key] = tensor
        if self.optimizer:
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _bare(self) -> nn.Module:
        model: nn.Module = self.model
        return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _no_figures(self) -> EpochFigures:
        return EpochFigures(0, 0.0, torch.zeros(self._genres, self._genres, dtype=torch.int64))

    def _count(self, figures: EpochFigures, logits_BG: torch.Tensor, genre_B: torch.Tensor, loss: float) -> None:
        cells_B = genre_B * self._genres + logits_BG.detach().argmax(dim=1)
        counts = torch.bincount(cells_B, minlength=self._genres**2).reshape(self._genres, self._genres)
        figures.clips += len(genre_B)
        figures.loss_sum += loss * len(genre_B)
        figures.confusion_GG += counts.cpu()
