"""What a training writes down, in this process: TensorBoard's event files, also in the object store."""

from __future__ import annotations

import importlib.util
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cluster.storage.uri import Uri
from cluster.training.journal import Journal, JournalPlan
from cluster.training.journal_writer import STEPS_NOTED, JournalWriter, collect_settings
from cluster.training.tensorboard import EventFiles
from mgc.errors import StorageError
from mgc.training.figures import EpochFigures
from tests.support import events
from tests.support.tiny_features import EXPERIMENT

GENRES = ("folk", "rock")
STEPS = 25


@pytest.fixture
def plan(tmp_path: Path) -> JournalPlan:
    return JournalPlan("tiny-0123", "0123", collect_settings(EXPERIMENT), GENRES, Uri.of_path(tmp_path / "runs"))


def figures(clips: int, right: int) -> EpochFigures:
    half = clips // 2
    return EpochFigures(clips, 0.5 * clips, torch.tensor([[right - half, clips - right], [0, half]]))


def epoch(
    writer: JournalWriter, number: int, optimizer: Any = None, steps: int = STEPS, right: int = 6
) -> dict[str, Any]:
    """One epoch of batches of eight clips a worker, the loss of each its number."""
    writer.begin(number * STEPS, STEPS)
    for step in range(steps):
        writer.step(8, float(step), optimizer)
    held = figures(8, right)
    row = {"epoch": number + 1, "train_loss": 1 / (number + 1), "validation_macro_f1": held.macro_f1}
    writer.end(row, held)
    return row


def test_a_training_becomes_scalars_settings_and_a_picture(plan: JournalPlan) -> None:
    journal = Journal(plan)
    writer = JournalWriter(journal, 0, workers=2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.25)
    first, second = epoch(writer, 0, optimizer, right=7), epoch(writer, 1, optimizer)
    assert journal.close(first, {"bundle_id": "b"}) == []
    found = events.read(f"{plan.tensorboard}/{plan.name}")
    points = found.scalars["step/loss"]
    assert [step for step, _ in points] == [10, 20, 25, 35, 45, 50]
    assert [loss for _, loss in points[:3]] == pytest.approx([4.5, 14.5, 22.0])
    assert STEPS_NOTED == 10
    assert {rate for _, rate in found.scalars["step/learning_rate"]} == {0.25}
    assert all(speed > 0 for tag in ("step", "epoch") for _, speed in found.scalars[f"{tag}/clips_per_second"])
    assert found.scalars["epoch/train_loss"] == [(25, 1.0), (50, 0.5)]
    assert [value for _, value in found.scalars["epoch/validation_macro_f1"]] == pytest.approx(
        [first["validation_macro_f1"], second["validation_macro_f1"]]
    )
    assert found.purged == [1], "a run of the same name that was killed before its first checkpoint is hidden"
    assert found.parameters["training.batch_size"] == 8
    assert found.parameters["training.augment.crop_time"] == EXPERIMENT.training.augment.crop_time
    assert found.parameters["recipe"] == "tiny"
    assert not {"deviations", "format_version"} & found.parameters.keys()
    assert set(found.metrics) == {"kept/train_loss", "kept/validation_macro_f1"}
    assert found.scalars["kept/validation_macro_f1"] == [(25, pytest.approx(first["validation_macro_f1"]))]
    step, png = found.images["confusion"]
    assert step == 25, "the picture is of the epoch that was kept"
    with Image.open(io.BytesIO(png)) as image:
        assert image.size[0] > 200
        assert np.asarray(image).std() > 10


def test_a_training_that_is_taken_up_hides_what_it_does_again(plan: JournalPlan) -> None:
    """The worker falls after epoch 1 and some steps; then the driver, whose next journal knows nothing."""
    journal = Journal(plan)
    writer = JournalWriter(journal)
    epoch(writer, 0)
    writer.begin(STEPS, STEPS)
    for _ in range(12):
        writer.step(8, 9.0)
    for last in (Journal(plan), journal):
        writer = JournalWriter(last)
        epoch(writer, 1)
        last.close(None)
        found = events.read(f"{plan.tensorboard}/{plan.name}")
        assert found.steps("step/loss") == [10, 20, 25, 35, 45, 50]
        assert found.steps("epoch/train_loss") == [25, 50]
        assert 9.0 not in [loss for _, loss in found.scalars["step/loss"]]
    assert found.purged == [1, STEPS + 1, STEPS + 1]
    assert found.images == {}


def test_an_epoch_without_validation_has_no_scores_nor_picture(plan: JournalPlan) -> None:
    journal = Journal(plan)
    writer = JournalWriter(journal)
    writer.begin(0, 1)
    writer.step(8, 2.0)
    row = {"epoch": 1, "train_loss": 2.0, "train_accuracy": 0.5}
    writer.end(row, EpochFigures(0, 0.0, torch.zeros(2, 2, dtype=torch.int64)))
    assert journal.close(row) == []
    found = events.read(f"{plan.tensorboard}/{plan.name}")
    assert found.metrics == ["kept/train_loss"]
    assert not any("validation" in tag for tag in found.scalars)
    assert found.images == {}


def test_a_training_that_falls_within_an_epoch_goes_on_there(plan: JournalPlan) -> None:
    journal = Journal(plan)
    epoch(JournalWriter(journal), 0)
    writer = JournalWriter(journal)
    writer.begin(STEPS, STEPS, done=15)
    for _ in range(STEPS - 15):
        writer.step(8, 1.0)
    journal.close(None)
    found = events.read(f"{plan.tensorboard}/{plan.name}")
    assert found.steps("step/loss") == [10, 20, 25, 50]
    assert found.purged[-1] == STEPS + 16


def test_epochs_that_are_longer_than_expected_do_not_overlap(plan: JournalPlan) -> None:
    journal = Journal(plan)
    writer = JournalWriter(journal)
    epoch(writer, 0, steps=STEPS + 20)
    epoch(writer, 1, steps=STEPS - 4)
    journal.close(None)
    steps = events.read(f"{plan.tensorboard}/{plan.name}").steps("step/loss")
    assert steps == sorted(steps)
    assert max(steps[:-2]) == STEPS


def test_slow_steps_are_noted_one_by_one(plan: JournalPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.training.journal_writer.SECONDS_NOTED", 0.0)
    journal = Journal(plan)
    epoch(JournalWriter(journal), 0, steps=3)
    assert events.read(f"{plan.tensorboard}/{plan.name}").steps("step/loss") == [1, 2, 3]


def test_only_the_first_worker_tells(plan: JournalPlan) -> None:
    journal = Journal(plan)
    epoch(JournalWriter(journal, rank=1, workers=2), 0)
    epoch(JournalWriter(None), 0)
    journal.close(None)
    assert not Path(str(plan.tensorboard)).exists()


def test_a_folder_that_cannot_be_written_ends_nothing(plan: JournalPlan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    journal = Journal(replace(plan, tensorboard=Uri.of_path(tmp_path / "file")))
    epoch(JournalWriter(journal), 0)
    [line] = journal.close(None)
    assert "TensorBoard" in line
    assert "\n" not in line


def test_a_file_that_could_not_be_written_is_written_with_the_next(tmp_path: Path) -> None:
    files = EventFiles(Uri.of_path(tmp_path / "runs" / "one"))
    (tmp_path / "runs").write_text("in the way")
    files.scalar("a", 1.0, 1)
    with pytest.raises(StorageError):
        files.flush()
    (tmp_path / "runs").unlink()
    files.scalar("a", 2.0, 2)
    files.flush()
    files.flush()
    found = events.read(files.uri.text)
    assert (found.files, found.scalars) == (1, {"a": [(1, 1.0), (2, 2.0)]})


@pytest.mark.cluster
def test_the_object_store_takes_event_files(plan: JournalPlan, bucket_uri: str) -> None:
    journal = Journal(replace(plan, tensorboard=Uri.parse(f"{bucket_uri}/runs")))
    epoch(JournalWriter(journal), 0)
    epoch(JournalWriter(journal), 1)
    assert journal.close(None) == []
    found = events.read(f"{bucket_uri}/runs/{plan.name}")
    assert found.files == 2, "one an epoch: an object cannot be appended to"
    assert found.steps("epoch/train_loss") == [25, 50]


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="MLflow is installed: see test_mlflow.py")
def test_without_the_package_mlflow_is_one_line(plan: JournalPlan) -> None:
    journal = Journal(replace(plan, mlflow="http://user:secret@localhost:5000"))
    epoch(JournalWriter(journal), 0)
    [line] = journal.close(None)
    assert line.startswith("MLflow at http://")
    assert "pip install 'mgc[mlflow]'" in line
    assert "secret" not in line
    assert len(events.read(f"{plan.tensorboard}/{plan.name}").scalars["epoch/train_loss"]) == 1
