"""The training loop: one epoch over batches, validation over batches, and a state that can be saved without pickle.

It does not depend on where batches come from or on other workers. A caller may pass a model wrapped for data-parallel
training, and then sums the validation counts of all workers itself.

Axes: B batch, F mel bins, T frames, G genres.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mgc.errors import TrainingError
from mgc.features.normalization import Normalization
from mgc.training.augment import augment, limit_band, mixup
from mgc.training.batch import Batch
from mgc.training.config import Precision, TrainingConfig, averaged_decay, learning_rate
from mgc.training.figures import EpochFigures
from mgc.training.losses import Loss, LossConfig, cross_entropy, l2_penalty, soft_targets
from mgc.training.seeds import derive_seed

SMALLEST_BATCH: Final = 2
"""Fewest clips in a batch: batch normalisation cannot take a deviation over one clip."""


def _averaged(model: nn.Module, average: float) -> AveragedModel:
    """Copy a model to hold the running mean of its weights and of the statistics of its normalisation layers."""

    def mean(averaged: torch.Tensor, current: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        # Batch counters are not averaged.
        if not averaged.is_floating_point():
            return current
        return torch.lerp(current, averaged, averaged_decay(average, int(steps)))

    return AveragedModel(model, avg_fn=mean, use_buffers=True)


def computes_bf16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16 natively; autocast to it is slow on others."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextlib.contextmanager
def _subnormals_as_zero() -> Iterator[None]:
    """Treat subnormals as zero: gradients of perfectly learned clips are below 1e-38, which is ten times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        # NumPy warns about this setting, so it must not outlast the step.
        torch.set_flush_denormal(False)


def _not_finite(value: float, epoch: int, step: int, track_ids: Sequence[str]) -> str:
    tracks = sorted(set(track_ids))
    shown = ", ".join(tracks[:10]) + (", …" if len(tracks) > 10 else "")
    return (
        f"training: the loss became {value} in epoch {epoch + 1}, step {step + 1} (tracks {shown}); "
        "lower training.learning_rate or set training.gradient_clip."
    )


def build_optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer | None:
    """Return the optimizer of a model's parameters; None if there is nothing to train, as in a guess.

    With `body_learning_rate` it has two groups, the last of which is the head. Each group's `share` is its learning
    rate as a share of the head's.

    Args:
        config: kind of optimizer and its settings.
        model: a `Classifier` if the body has a learning rate of its own.
    """
    parameters = list(model.parameters())
    if not parameters:
        return None
    groups: list[dict[str, Any]] = [{"params": parameters, "share": 1.0}]
    if config.body_learning_rate is not None:
        head = list(model.get_submodule("head").parameters())
        own = {id(parameter) for parameter in head}
        body = [parameter for parameter in parameters if id(parameter) not in own]
        share = config.body_learning_rate / config.learning_rate
        groups = [{"params": body, "share": share}, {"params": head, "share": 1.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, config.momentum, weight_decay=config.weight_decay)
    optimizer = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return optimizer(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


class Learner:
    """A model, its optimizer and the progress of its training.

    Args:
        model: network from normalised features to logits; may be wrapped for data-parallel training. A model without
            parameters is only scored: its steps change nothing.
        config: how to train.
        normalization: normalization of the stored features.
        genres: number of logits.
        device: device of the model and the batches.
        class_counts: training clips of each genre, in the order of the logits; optional if the loss does not depend on
            them.
        at_once: number of clips whose gradients are computed at once. The gradients of a larger batch are summed over
            its parts. 0 takes each batch whole.
        agree: function called at each step with the fault of this worker, usually None. It returns the fault of any
            worker, so that all workers stop at the same step.

    Raises:
        TrainingError: the loss depends on the counts, and they are missing.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        normalization: Normalization,
        genres: int,
        device: torch.device,
        class_counts: Sequence[int] = (),
        at_once: int = 0,
        agree: Callable[[str | None], str | None] = lambda fault: fault,
    ) -> None:
        self.model = model
        self.config = config
        self.device = device
        self._at_once = at_once
        self._agree = agree
        self._bf16 = config.precision == "bf16" and computes_bf16(device)
        self._normalization = normalization
        self._genres = genres
        self._loss = Loss(config.loss, class_counts, device)
        self._head_loss = Loss(LossConfig(), class_counts, device)
        self.optimizer = build_optimizer(config, self._bare())
        self._average = _averaged(self._bare(), config.average) if config.average and self.optimizer else None

    @property
    def precision(self) -> Precision:
        """Number format in which the network computes."""
        return "bf16" if self._bf16 else "float32"

    @property
    def kept(self) -> nn.Module:
        """Model that is validated and kept: without its data-parallel wrapper, and averaged if the config says so."""
        return self._average.module if self._average else self._bare()

    def train_epoch(
        self,
        batches: Iterable[Batch],
        epoch: int,
        steps: int,
        rank: int = 0,
        on_step: Callable[[int, float], None] = lambda clips, loss: None,
        first: int = 0,
    ) -> EpochFigures:
        """Train one pass, or part of one. The same batches give the same model on the same machine.

        This holds after a resume too, as long as passes are cut into the same parts.

        A batch of fewer than `SMALLEST_BATCH` clips is skipped: the last batch of an epoch may be that small. So all
        workers of data-parallel training must get batches of the same sizes, or one waits forever for another's step.

        Args:
            batches: batches of training clips.
            epoch: counted from 0; seeds torch's global generator together with the seed and the rank. From
                `config.epochs` on the head is trained; the caller has frozen the rest.
            steps: expected number of batches, for the schedule.
            rank: rank of this worker; each augments in its own way.
            on_step: function called after each step with the number of clips and their mean loss, L2 term included.
            first: number of steps of this pass that earlier calls have done.

        Returns:
            The loss without the L2 term, and the answers. Both are for augmented clips, from before each step.

        Raises:
            TrainingError: the loss is not finite (the message names tracks of the batch), or no batch was large enough.
        """
        torch.manual_seed(derive_seed(self.config.seed, epoch, rank, *([first] if first else [])))
        self.model.train()
        figures = self.no_figures()
        retrains = self.config.retrains(epoch)
        begins, lasts = (self.config.epochs, self.config.head_epochs) if retrains else (0, self.config.epochs)
        criterion = self._head_loss if retrains else self._loss
        for step, batch in enumerate(batches, first):
            if len(batch.genre_B) < SMALLEST_BATCH:
                continue
            done = min(step / max(steps, 1), 1.0)
            rate = learning_rate(self.config, (epoch - begins + done) / lasts)
            for group in self.optimizer.param_groups if self.optimizer else ():
                group["lr"] = rate * group["share"]
            value = self._gradients(batch, criterion, figures)
            fault = None if math.isfinite(value) else _not_finite(value, epoch, step, batch.track_ids)
            if (fault := self._agree(fault)) is not None:
                raise TrainingError(fault)
            if self.optimizer:
                with _subnormals_as_zero():
                    if self.config.gradient_clip:
                        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
                    self.optimizer.step()
                if self._average:
                    self._average.update_parameters(self._bare())
            on_step(len(batch.genre_B), value)
        if not figures.clips:
            raise TrainingError(
                f"training: worker {rank} got no batch of {SMALLEST_BATCH} clips or more in epoch {epoch + 1}; "
                "prepare more clips of the training split, or take fewer workers."
            )
        return figures

    def _gradients(self, whole: Batch, criterion: Loss, figures: EpochFigures) -> float:
        """Compute the gradients of a batch and count its clips. Returns their mean loss with the L2 term.

        If a batch is computed in parts, only the last part waits for the other workers.
        """
        if self.optimizer:
            self.optimizer.zero_grad(set_to_none=True)
        parts = whole.parts(self._at_once)
        mean = 0.0
        for part in parts:
            share = len(part.genre_B) / len(whole.genre_B)
            batch = part.to(self.device)
            stored_BFT = limit_band(batch.features_BFT, self.config.augment.limit_band)
            features_BFT = augment(self._normalization.apply(stored_BFT), self.config.augment)
            targets_BG = soft_targets(batch.genre_B, self._genres, self.config.label_smoothing)
            if self.config.augment.mixup:
                features_BFT, targets_BG = mixup(features_BFT, targets_BG, self.config.augment.mixup)
            with self._alone() if part is not parts[-1] else contextlib.nullcontext():
                with self._autocast():
                    logits_BG = self.model(features_BFT)
                loss = criterion(logits_BG, targets_BG)
                total = loss
                if self.config.l2:
                    total = loss + self.config.l2 * l2_penalty(self.model, self.config.l2_biases)
                if self.optimizer:
                    with _subnormals_as_zero():
                        (total * (share * whole.weight)).backward()
            mean += float(total.detach()) * share
            self._count(figures, logits_BG, batch.genre_B, float(loss.detach()))
        return mean

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Keep gradients on this worker."""
        model: nn.Module = self.model
        if isinstance(model, nn.parallel.DistributedDataParallel):
            return model.no_sync()
        return contextlib.nullcontext()

    @torch.inference_mode()
    def validate(self, batches: Iterable[Batch]) -> EpochFigures:
        """Return cross-entropy and confusion, without augmentation, label smoothing or L2.

        The loss is cross-entropy whatever loss training uses. Empty batches are skipped.
        """
        # Do not use the data-parallel wrapper: it waits for every worker at each batch, and workers may have different
        # numbers of validation batches.
        model = self.kept.eval()
        figures = self.no_figures()
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
        """Return the running mean of the weights and its number of steps; empty if there is none."""
        state = self._average.state_dict() if self._average else {}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}

    def load_average_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Load the tensors of `average_tensors`.

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
        """Return the optimizer's state as named tensors on the CPU, contiguous as safetensors requires."""
        state = self.optimizer.state_dict()["state"] if self.optimizer else {}
        return {
            f"{index}.{key}": torch.as_tensor(value).cpu().contiguous()
            for index, slot in state.items()
            for key, value in slot.items()
            if value is not None
        }

    def load_optimizer_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Load the tensors of `optimizer_tensors`.

        Raises:
            TrainingError: the tensors are of another model.
        """
        groups = self.optimizer.param_groups if self.optimizer else []
        shapes = [parameter.shape for group in groups for parameter in group["params"]]
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
            kept = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state, "param_groups": kept})

    def _bare(self) -> nn.Module:
        model: nn.Module = self.model
        return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)

    def no_figures(self) -> EpochFigures:
        """Return figures of no clips."""
        return EpochFigures(0, 0.0, torch.zeros(self._genres, self._genres, dtype=torch.int64))

    def _count(self, figures: EpochFigures, logits_BG: torch.Tensor, genre_B: torch.Tensor, loss: float) -> None:
        cells_B = genre_B * self._genres + logits_BG.detach().argmax(dim=1)
        counts = torch.bincount(cells_B, minlength=self._genres**2).reshape(self._genres, self._genres)
        figures.clips += len(genre_B)
        figures.loss_sum += loss * len(genre_B)
        figures.confusion_GG += counts.cpu()
