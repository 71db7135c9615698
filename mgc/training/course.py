"""The course of a training: which epoch comes next, what they gave, the best weights; saved and taken up again.

It knows neither where batches come from nor who else trains; every worker of a data-parallel training has one, and they
agree as long as they are given the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mgc.errors import TrainingError
from mgc.models.blocks import Classifier
from mgc.training.config import TrainingConfig
from mgc.training.figures import EpochFigures
from mgc.training.loop import Learner
from mgc.training.stages import next_epoch

_STATE: Final = "state.json"
_MODEL: Final = "model.safetensors"
_BEST: Final = "best.safetensors"
_OPTIMIZER: Final = "optimizer.safetensors"
_AVERAGE: Final = "average.safetensors"

Row = dict[str, float]
"""Of a history: `epoch`, counted from 1, and the figures of it by name; those of validation only where there is one."""


class Course:
    """A training as far as it has come.

    Args:
        config: epochs, and what chooses the best of them.
        build: gives the untrained network, always the same.
        learner: makes the learner of a network; called again where the head is trained anew.
        saved: folder that `save` wrote, to go on from there.

    Attributes:
        model: the network that learns.
        learner: of it.
        history: a row for each epoch that is done.
        best: weights of the best epoch of the stage so far; empty before the first.
    """

    def __init__(
        self,
        config: TrainingConfig,
        build: Callable[[], Classifier],
        learner: Callable[[Classifier], Learner],
        saved: Path | None = None,
    ) -> None:
        self._config = config
        self._build = build
        self._make_learner = learner
        self._epoch = -1
        self._best_score: float | None = None
        self._stale = 0
        self._steps = 0
        self._figures: EpochFigures | None = None
        self._fault: str | None = None
        self.history: list[Row] = []
        self.best: dict[str, torch.Tensor] = {}
        self.model = build()
        if saved is None:
            self.learner = learner(self.model)
            return
        state = json.loads((saved / _STATE).read_text())
        self._epoch, self._best_score, self._stale = state["epoch"], state["best"], state["stale"]
        self._steps = state["steps"]
        self._figures = EpochFigures.from_json(state["figures"]) if self._steps else None
        self.history = state["history"]
        self.best = load_file(saved / _BEST)
        self.model.load_state_dict(load_file(saved / _MODEL))
        if config.retrains(self._current()):
            self.model.keep_embedding(self.model.state_dict())
        self.learner = learner(self.model)
        self.learner.load_optimizer_tensors(load_file(saved / _OPTIMIZER))
        self.learner.load_average_tensors(load_file(saved / _AVERAGE))

    def begin(self) -> int | None:
        """The epoch to train now, counted from 0, with `learner` ready for it; None where the training is over."""
        epoch = next_epoch(self._config, self._epoch, self._stale)
        if epoch is not None and self._config.retrains(epoch) and not self._config.retrains(self._current()):
            # The best embedding, with a head as it was before all training.
            self.model = self._build()
            self.model.keep_embedding(self.best)
            self.learner = self._make_learner(self.model)
            self._best_score, self._stale = None, 0
        return epoch

    def begun(self) -> tuple[int, EpochFigures]:
        """Steps of the present epoch that were done before the course was saved, and their figures."""
        return self._steps, self._figures or self.learner.no_figures()

    def pause(self, steps: int, figures: EpochFigures) -> None:
        """Note how far the present epoch has come, for `save`.

        Args:
            steps: that are done.
            figures: of them, over all workers.
        """
        self._steps, self._figures = steps, figures

    def fail(self, fault: str) -> None:
        """Note, for `save`, why the course cannot go on."""
        self._fault = fault

    @property
    def over(self) -> bool:
        """Whether no epoch is left."""
        return next_epoch(self._config, self._epoch, self._stale) is None

    def reported(self) -> Row:
        """The last row, for one who compares trainings as they go: with `over`, and the kept epoch's as `kept_…`."""
        kept = {f"kept_{name}": value for name, value in kept_row(self._config, self.history).items()}
        return {**self.history[-1], **kept, "over": self.over}

    def end(self, row: Row) -> None:
        """Note what an epoch gave.

        Args:
            row: with the epoch's number from 1, and what `TrainingConfig.validation_score` needs.
        """
        score = self._config.validation_score(row)
        better = self._best_score is None or score > self._best_score
        if better:
            self._best_score = score
            self.best = _weights(self.learner.kept)
        self._stale = 0 if better else self._stale + 1
        self._epoch = int(row["epoch"]) - 1
        self._steps, self._figures = 0, None
        self.history.append(row)

    def save(self, folder: Path) -> None:
        """Write everything that is needed to go on: safetensors and JSON, with the best weights beside the last."""
        save_file(_weights(self.model), folder / _MODEL)
        save_file(self.best, folder / _BEST)
        save_file(self.learner.optimizer_tensors(), folder / _OPTIMIZER)
        save_file(self.learner.average_tensors(), folder / _AVERAGE)
        state = {
            "epoch": self._epoch,
            "best": self._best_score,
            "stale": self._stale,
            "history": self.history,
            "steps": self._steps,
            "figures": self._figures.to_json() if self._figures else None,
            "fault": self._fault,
            "precision": self.learner.precision,
        }
        (folder / _STATE).write_text(json.dumps(state))

    def _current(self) -> int:
        """The epoch that the weights are of: the last one that is done, or the one that is being done."""
        if not self._steps:
            return self._epoch
        epoch = next_epoch(self._config, self._epoch, self._stale)
        assert epoch is not None
        return epoch


def epoch_row(epoch: int, trained: EpochFigures, held: EpochFigures) -> Row:
    """The row of an epoch in a history.

    Args:
        epoch: counted from 0.
        trained: of the training clips, as training saw them.
        held: of the validation clips; its figures are left out where there are none.
    """
    row: Row = {"epoch": epoch + 1, "train_loss": trained.loss, "train_accuracy": trained.accuracy}
    if held.clips:
        row |= {
            "validation_loss": held.loss,
            "validation_accuracy": held.accuracy,
            "validation_macro_f1": held.macro_f1,
        }
    return row


def kept_row(config: TrainingConfig, history: Sequence[Row]) -> Row:
    """The row of the epoch whose weights are kept: the best of the last stage that began.

    Args:
        config: what chooses it.
        history: one row at least.
    """
    # Where the head was trained anew, the model is of one of those epochs.
    final = [row for row in history if row["epoch"] > config.epochs] or history
    return max(final, key=config.validation_score)


@dataclass(frozen=True)
class BestModel:
    """The best model of a course.

    Attributes:
        weights: tensors by their names.
        history: one row for each epoch of the course.
        precision: number format in which the course computed; None where an earlier version saved it.
    """

    weights: dict[str, torch.Tensor]
    history: list[Row]
    precision: str | None


def read_best(folder: Path) -> BestModel:
    """Return the best model of a folder that `Course.save` wrote.

    Raises:
        TrainingError: the course failed; says why.
    """
    state = json.loads((folder / _STATE).read_text())
    if state["fault"] is not None:
        raise TrainingError(state["fault"])
    return BestModel(load_file(folder / _BEST), state["history"], state.get("precision"))


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Contiguous copies on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
