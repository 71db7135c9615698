"""A checkpoint with a flipped bit is never loaded."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from mgc.errors import TrainingError
from mgc.features.normalization import Normalization
from mgc.models.blocks import Classifier
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.training.batch import Batch
from mgc.training.config import TrainingConfig
from mgc.training.course import Course, epoch_row, find_damage, read_best
from mgc.training.loop import Learner
from tests.support.damage import flip_bit
from tests.support.draws import draws

CONFIG = TrainingConfig(epochs=2, batch_size=8, average=0.9)


def course(saved: Path | None = None) -> Course:
    def build() -> Classifier:
        torch.manual_seed(0)
        return HouseCnn(HouseCnnConfig(channels=(4, 4), blocks=0), 2)

    def learner(model: Classifier) -> Learner:
        return Learner(model, CONFIG, Normalization((100.0,) * 8, (50.0,) * 8), 2, torch.device("cpu"))

    return Course(CONFIG, build, learner, saved)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    training = course()
    epoch = training.begin()
    assert epoch == 0
    features_BFT = torch.randint(0, 256, (12, 8, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batch = Batch(features_BFT, torch.arange(12) % 2, [str(row) for row in range(12)])
    trained = training.learner.train_epoch([batch], epoch, 1)
    training.end(epoch_row(epoch, trained, training.learner.validate([batch])))
    training.save(tmp_path)
    return tmp_path


@pytest.mark.draws
def test_a_flipped_bit_in_any_file(saved: Path) -> None:
    paths = sorted(saved.iterdir())
    assert len(paths) == 6
    assert find_damage(saved) is None
    for seed in range(draws(300)):
        victim = paths[seed % len(paths)]
        good = victim.read_bytes()
        victim.write_bytes(flip_bit(good, seed))
        assert find_damage(saved) is not None, (victim.name, seed)
        for load in (course, read_best):
            with pytest.raises(TrainingError, match="damaged"):
                load(saved)
        victim.write_bytes(good)
    assert course(saved).history == read_best(saved).history


@pytest.mark.parametrize("how", ["gone", "empty", "cut off"])
def test_files_that_are_not_whole(how: str, saved: Path) -> None:
    for victim in sorted(saved.iterdir()):
        good = victim.read_bytes()
        if how == "gone":
            victim.unlink()
        else:
            victim.write_bytes(b"" if how == "empty" else good[: random.Random(0).randrange(len(good))])
        # Without digests it is a checkpoint of an earlier mgc.
        assert (find_damage(saved) is None) == (how == "gone" and victim.name == "digests.json"), victim.name
        victim.write_bytes(good)


def test_a_checkpoint_of_an_earlier_mgc(saved: Path) -> None:
    (saved / "digests.json").unlink()
    assert course(saved).begin() == 1
    assert [row["epoch"] for row in read_best(saved).history] == [1]
