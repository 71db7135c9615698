"""The course of a training: the next epoch, the results so far and the best weights. It can be saved and resumed.

It does not depend on where batches come from or on other workers. In data-parallel training every worker has one, and
they agree as long as they get the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mgc.errors import TrainingError
from mgc.models.blocks import Classifier
from mgc.training import digests
from mgc.training.config import TrainingConfig
from mgc.training.figures import EpochFigures
from mgc.training.loop import Learner
from mgc.training.stages import next_epoch

_STATE: Final = "state.json"
_MODEL: Final = "model.safetensors"
_BEST: Final = "best.safetensors"
_OPTIMIZER: Final = "optimizer.safetensors"
_AVERAGE: Final = "average.safetensors"
_FILES: Final = (_STATE, _MODEL, _BEST, _OPTIMIZER, _AVERAGE)

Row = dict[str, float]
"""Row of a history: `epoch`, counted from 1, and its figures by name, those of validation only if it has one."""


class Course:
    """A training and its progress so far.

    Args:
        config: epochs, and how the best of them is chosen.
        build: function that returns the untrained network, always the same.
        learner: function that makes the learner of a network; called again when the head is re-trained.
        saved: folder that `save` wrote, to resume from.

    Raises:
        TrainingError: a file of `saved` is damaged. `find_damage` says so before.

    Attributes:
        model: network being trained.
        learner: its learner.
        history: one row for each finished epoch.
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
        state = _read_state(saved)
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
        """Prepare `learner` for the next epoch and return its number, counted from 0; None if training is over."""
        epoch = next_epoch(self._config, self._epoch, self._stale)
        if epoch is not None and self._config.retrains(epoch) and not self._config.retrains(self._current()):
            # The best embedding, with an untrained head.
            self.model = self._build()
            self.model.keep_embedding(self.best)
            self.learner = self._make_learner(self.model)
            self._best_score, self._stale = None, 0
        return epoch

    def begun(self) -> tuple[int, EpochFigures]:
        """Return the steps of the current epoch that were done before the course was saved, and their figures."""
        return self._steps, self._figures or self.learner.no_figures()

    def pause(self, steps: int, figures: EpochFigures) -> None:
        """Record the progress of the current epoch, for `save`.

        Args:
            steps: number of finished steps.
            figures: their figures, over all workers.
        """
        self._steps, self._figures = steps, figures

    def fail(self, fault: str) -> None:
        """Record, for `save`, why the course cannot go on."""
        self._fault = fault

    @property
    def over(self) -> bool:
        """Whether no epoch is left."""
        return next_epoch(self._config, self._epoch, self._stale) is None

    def reported(self) -> Row:
        """Return the last row, to compare running trainings: with `over`, and the kept epoch's figures as `kept_…`."""
        kept = {f"kept_{name}": value for name, value in kept_row(self._config, self.history).items()}
        return {**self.history[-1], **kept, "over": self.over}

    def end(self, row: Row) -> None:
        """Record the results of an epoch.

        Args:
            row: row with the epoch's number, counted from 1, and the figures that `TrainingConfig.validation_score`
                needs.
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
        """Write everything needed to resume, as safetensors and JSON: the last weights and the best ones."""
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
        digests.write_digests(folder, _FILES)

    def _current(self) -> int:
        """Return the epoch that the weights belong to: the current one, or else the last finished one."""
        if not self._steps:
            return self._epoch
        epoch = next_epoch(self._config, self._epoch, self._stale)
        assert epoch is not None
        return epoch


def epoch_row(epoch: int, trained: EpochFigures, held: EpochFigures) -> Row:
    """Return the row of an epoch in a history.

    Args:
        epoch: counted from 0.
        trained: figures of the training clips, as seen in training.
        held: figures of the validation clips; left out of the row if there are no such clips.
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
    """Return the row of the epoch whose weights are kept: the best of the last stage that began.

    Args:
        config: configuration that chooses the epoch.
        history: at least one row.
    """
    # If the head was re-trained, the model comes from one of those epochs.
    final = [row for row in history if row["epoch"] > config.epochs] or history
    return max(final, key=config.validation_score)


@dataclass(frozen=True)
class BestModel:
    """The best model of a course.

    Attributes:
        weights: tensors by their names.
        history: one row for each epoch of the course.
        precision: number format in which the course computed; None if an earlier version saved it.
    """

    weights: dict[str, torch.Tensor]
    history: list[Row]
    precision: str | None


def read_best(folder: Path) -> BestModel:
    """Return the best model of a folder that `Course.save` wrote.

    Raises:
        TrainingError: the course failed; the message says why. Or a file of the folder is damaged.
    """
    state = _read_state(folder)
    if state["fault"] is not None:
        raise TrainingError(state["fault"])
    return BestModel(load_file(folder / _BEST), state["history"], state.get("precision"))


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with a folder that `Course.save` wrote, as a clause; None if it is as it was written."""
    return digests.find_damage(folder, _FILES)


def _read_state(folder: Path) -> dict[str, Any]:
    damage = find_damage(folder)
    if damage is not None:
        raise TrainingError(f"{folder}: this checkpoint is damaged ({damage}); delete it, and submit the job again.")
    state: dict[str, Any] = json.loads((folder / _STATE).read_text())
    return state


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return contiguous copies of the weights on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
