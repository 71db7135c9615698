"""A training that is saved after any epoch and taken up again ends like one that ran through."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from mgc.errors import TrainingError
from mgc.features.normalization import Normalization
from mgc.models.blocks import Classifier
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.training.augment import AugmentConfig
from mgc.training.course import Course, epoch_row, read_best
from mgc.training.loop import Batch, Learner, TrainingConfig

GENRES = 3
CONFIG = TrainingConfig(
    epochs=4, learning_rate=1e-2, weight_decay=0.05, augment=AugmentConfig(roll_time=True, crop_time=0.5, mixup=0.3)
)


def batches(seed: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Batch(
            torch.randint(0, 256, (12, 8, 10), dtype=torch.uint8, generator=generator),
            torch.randint(0, GENRES, (12,), generator=generator),
            [str(row) for row in range(12)],
        )
        for _ in range(3)
    ]


def course(config: TrainingConfig, saved: Path | None = None) -> Course:
    def build() -> Classifier:
        torch.manual_seed(config.seed)
        return HouseCnn(HouseCnnConfig(channels=(6, 8), blocks=1), GENRES)

    def learner(model: Classifier) -> Learner:
        return Learner(model, config, Normalization((100.0,) * 8, (50.0,) * 8), GENRES, torch.device("cpu"))

    return Course(config, build, learner, saved)


def go(training: Course, epochs: int = 99) -> None:
    while epochs and (epoch := training.begin()) is not None:
        trained = training.learner.train_epoch(batches(epoch), epoch, 3)
        training.end(epoch_row(epoch, trained, training.learner.validate(batches(1000))))
        epochs -= 1


@cache
def uninterrupted(config: TrainingConfig, steps: int = 0) -> tuple[Course, dict[str, bytes]]:
    """A training that ran through, in passes of so many steps if any are named, and the files that it saves."""
    training = course(config)
    go_by_steps(training, steps) if steps else go(training)
    with tempfile.TemporaryDirectory() as folder:
        return training, contents(training, Path(folder))


def contents(training: Course, folder: Path) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    training.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("done", [1, 3, 4, 5])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"average": 0.9},
        {"average": 0.9, "select": "last"},
        {"head_epochs": 2, "balance": "natural"},
        {"head_epochs": 2, "average": 0.5, "select": "loss"},
        {"patience": 1, "head_epochs": 3},
    ],
)
def test_resumed_is_the_same_as_uninterrupted(change: dict[str, Any], done: int, tmp_path: Path) -> None:
    config = replace(CONFIG, **change)
    through, saved = uninterrupted(config)
    first = course(config)
    go(first, done)
    contents(first, tmp_path / "saved")
    torch.manual_seed(99)  # Whatever happened in between.
    second = course(config, tmp_path / "saved")
    go(second)
    assert contents(second, tmp_path / "second") == saved
    best = read_best(tmp_path / "second")
    assert best.history == through.history
    assert [row["epoch"] for row in best.history] == sorted({row["epoch"] for row in best.history})
    assert best.weights.keys() == through.model.state_dict().keys()
    assert best.precision == "float32"


@pytest.mark.parametrize(("select", "pick"), [("macro_f1", max), ("loss", min), ("last", None)])
def test_the_best_weights_are_those_of_the_best_epoch(select: Any, pick: Any) -> None:
    training = course(replace(CONFIG, select=select, epochs=6))
    weights = []
    while (epoch := training.begin()) is not None:
        trained = training.learner.train_epoch(batches(epoch), epoch, 3)
        training.end(epoch_row(epoch, trained, training.learner.validate(batches(1000))))
        weights.append({name: tensor.clone() for name, tensor in training.model.state_dict().items()})
    scores = [row["validation_loss" if select == "loss" else "validation_macro_f1"] for row in training.history]
    best = weights[scores.index(pick(scores)) if pick else -1]
    assert all(torch.equal(training.best[name], best[name]) for name in best)


def test_what_is_averaged_is_what_is_kept() -> None:
    """The mean by its definition, step by step."""
    config = replace(CONFIG, average=0.6, epochs=2, select="last")
    training = course(config)
    model = training.model
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    steps = 0
    while (epoch := training.begin()) is not None:
        for number, batch in enumerate(batches(epoch)):
            # A batch at a time; the schedule stands still in it, as it does not matter here.
            trained = training.learner.train_epoch([batch], epoch, 3)
            # The first step sets the mean, as there is nothing before it.
            decay = min(0.6, (1 + steps) / (10 + steps)) if steps else 0.0
            for name, tensor in model.state_dict().items():
                counts = not tensor.is_floating_point()
                expected[name] = tensor.clone() if counts else decay * expected[name] + (1 - decay) * tensor
            steps += 1
            assert number < 3
        training.end(epoch_row(epoch, trained, training.learner.validate(batches(1000))))
    assert steps == 6
    for name, tensor in expected.items():
        torch.testing.assert_close(training.best[name], tensor)
    assert not torch.equal(training.best["head.weight"], model.state_dict()["head.weight"])


def test_an_epoch_without_validation_says_nothing_of_it() -> None:
    training = course(replace(CONFIG, select="last", epochs=1))
    epoch = training.begin()
    assert epoch == 0
    trained = training.learner.train_epoch(batches(0), 0, 3)
    row = epoch_row(0, trained, training.learner.validate([]))
    assert row == {"epoch": 1, "train_loss": trained.loss, "train_accuracy": trained.accuracy}
    training.end(row)
    assert training.begin() is None
    assert training.best


def go_by_steps(training: Course, steps: int, stop_after: int = 10**6) -> None:
    """As `go`, each epoch cut into passes of so many steps; stops after so many of them."""
    while (epoch := training.begin()) is not None:
        given = batches(epoch)
        done, figures = training.begun()
        while done < len(given):
            if not stop_after:
                return
            stop_after -= 1
            figures += training.learner.train_epoch(given[done : done + steps], epoch, 3, first=done)
            done += steps
            training.pause(done, figures)
        training.end(epoch_row(epoch, figures, training.learner.validate(batches(1000))))


@pytest.mark.parametrize("done", [1, 2, 4, 5, 7, 11])
@pytest.mark.parametrize("change", [{"average": 0.9}, {"head_epochs": 2, "balance": "natural"}])
def test_taken_up_inside_of_an_epoch_it_is_the_same(change: dict[str, Any], done: int, tmp_path: Path) -> None:
    """Also inside of the first epoch, where there is no best yet, and of the first that trains the head alone."""
    config = replace(CONFIG, **{"epochs": 2, **change})
    through, saved = uninterrupted(config, steps=2)
    first = course(config)
    go_by_steps(first, 2, done)
    contents(first, tmp_path / "saved")
    torch.manual_seed(99)
    second = course(config, tmp_path / "saved")
    go_by_steps(second, 2)
    assert contents(second, tmp_path / "second") == saved
    assert second.history == through.history


def test_a_course_that_failed_says_so_to_whoever_wants_its_best(tmp_path: Path) -> None:
    training = course(replace(CONFIG, epochs=2))
    go(training, 1)
    contents(training, tmp_path / "well")
    assert read_best(tmp_path / "well").history == training.history
    training.fail("the loss became nan (tracks a, b)")
    contents(training, tmp_path / "failed")
    with pytest.raises(TrainingError, match="the loss became nan"):
        read_best(tmp_path / "failed")
